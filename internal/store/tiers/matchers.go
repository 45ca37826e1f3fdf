package tiers

import "github.com/prometheus/prometheus/model/labels"

// matches says whether a series is of a selector.
func matches(ls labels.Labels, ms []*labels.Matcher) bool {
	for _, m := range ms {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

// implies says whether surely all series of query are of selector too. No is not
// sure: two regular expressions are compared by their text.
func implies(query, selector []*labels.Matcher) bool {
	for _, want := range selector {
		if !impliesOne(query, want) {
			return false
		}
	}
	return true
}

func impliesOne(query []*labels.Matcher, want *labels.Matcher) bool {
	for _, q := range query {
		if q.Name != want.Name {
			continue
		}
		if q.Type == want.Type && q.Value == want.Value {
			return true
		}
		if values, ok := finite(q); ok && all(values, want.Matches) {
			return true
		}
	}
	return false
}

// disjoint says whether surely no series is of both.
func disjoint(a, b []*labels.Matcher) bool {
	return excludes(a, b) || excludes(b, a)
}

func excludes(a, b []*labels.Matcher) bool {
	for _, x := range a {
		values, ok := finite(x)
		if !ok {
			continue
		}
		for _, y := range b {
			if x.Name == y.Name && all(values, func(v string) bool { return !y.Matches(v) }) {
				return true
			}
		}
	}
	return false
}

// finite returns the values that m takes when they are few and known.
func finite(m *labels.Matcher) ([]string, bool) {
	switch m.Type {
	case labels.MatchEqual:
		return []string{m.Value}, true
	case labels.MatchRegexp:
		v := m.SetMatches()
		return v, len(v) > 0
	}
	return nil, false
}

func all(values []string, ok func(string) bool) bool {
	for _, v := range values {
		if !ok(v) {
			return false
		}
	}
	return true
}
