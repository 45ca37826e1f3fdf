package storetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func (s *suite) services() {
	want := []string{s.name("a"), s.name("b/c d"), s.name("ü")}
	for _, name := range want {
		s.put(s.one(name, "op", 0, nil))
		s.put(s.one(name, "op", time.Second, nil))
	}
	s.wait(func() string { return s.hasServices(want...) })
}

func (s *suite) hasServices(want ...string) string {
	got, err := s.r.Services(s.ctx)
	if err != nil {
		return err.Error()
	}
	if !slices.IsSorted(got) {
		return fmt.Sprintf("services %q are not sorted", got)
	}
	if len(slices.Compact(slices.Clone(got))) != len(got) {
		return fmt.Sprintf("services %q has one twice", got)
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			return fmt.Sprintf("services %q has no %q", got, name)
		}
	}
	return ""
}

func (s *suite) operations() {
	service := s.name("operator")
	for i, o := range []spanstore.Operation{
		{Name: "b", Kind: span.KindServer}, {Name: "a", Kind: span.KindServer}, {Name: "a", Kind: span.KindClient},
		{Name: "a", Kind: span.KindServer}, {Name: "ü /{id}", Kind: span.KindProducer}, {Name: "c"},
	} {
		s.put(s.one(service, o.Name, time.Duration(i)*time.Second, func(x *span.Span) { x.Kind = o.Kind }))
	}
	s.put(s.one(s.name("another"), "z", 0, nil))
	for _, c := range []struct {
		service string
		kind    span.Kind
		want    []spanstore.Operation
	}{
		{service, span.KindUnspecified, []spanstore.Operation{
			{Name: "a", Kind: span.KindServer}, {Name: "a", Kind: span.KindClient}, {Name: "b", Kind: span.KindServer},
			{Name: "c"}, {Name: "ü /{id}", Kind: span.KindProducer},
		}},
		{service, span.KindServer, []spanstore.Operation{{Name: "a", Kind: span.KindServer}, {Name: "b", Kind: span.KindServer}}},
		{service, span.KindProducer, []spanstore.Operation{{Name: "ü /{id}", Kind: span.KindProducer}}},
		{service, span.KindConsumer, nil},
		{s.name("another"), span.KindUnspecified, []spanstore.Operation{{Name: "z", Kind: span.KindServer}}},
		{s.name("nobody"), span.KindUnspecified, nil},
	} {
		if s.lacks[OperationKinds] {
			if c.kind != span.KindUnspecified {
				continue
			}
			for i := range c.want {
				c.want[i].Kind = span.KindUnspecified
			}
			c.want = slices.Compact(c.want)
		}
		s.wait(func() string {
			got, err := s.r.Operations(s.ctx, c.service, c.kind)
			if err != nil || !slices.Equal(got, c.want) {
				return fmt.Sprintf("operations of %s, kind %d: got %v and %v, want %v", c.service, c.kind, got, err, c.want)
			}
			return ""
		})
	}
}

// linker is a store that is told the dependencies, which are found elsewhere.
type linker interface {
	AddLinks(ctx context.Context, at time.Time, links []spanstore.Dependency) error
}

func (s *suite) dependencies() {
	edge, shop, db := s.name("edge"), s.name("shop"), s.name("db")
	for range 2 {
		_, whole := s.mesh()
		s.put(whole)
	}
	want := []spanstore.Dependency{{Parent: edge, Child: shop, Calls: 2}, {Parent: shop, Child: db, Calls: 2}}
	if l, ok := s.w.(linker); ok && !s.lacks[Links] {
		for range 2 {
			one := []spanstore.Dependency{{Parent: edge, Child: shop, Calls: 1}, {Parent: shop, Child: db, Calls: 1}}
			if err := l.AddLinks(s.ctx, s.at, one); err != nil {
				s.Fatal(err)
			}
		}
	} else if !s.lacks[Links] {
		s.Fatal("dependencies cannot be written: the store has no AddLinks and does not lack Links")
	}
	slices.SortFunc(want, byParent)
	s.wait(func() string {
		got, err := s.r.Dependencies(s.ctx, spanstore.Window{Start: s.at.Add(-time.Hour), End: s.at.Add(2 * time.Hour)})
		if err != nil {
			return err.Error()
		}
		if !slices.IsSortedFunc(got, byParent) {
			return fmt.Sprintf("dependencies %v are not sorted", got)
		}
		ours := slices.DeleteFunc(got, func(d spanstore.Dependency) bool { return d.Parent != edge && d.Parent != shop && d.Parent != db })
		if !slices.Equal(ours, want) {
			return fmt.Sprintf("dependencies: got %v, want %v", ours, want)
		}
		return ""
	})
	got, err := s.r.Dependencies(s.ctx, spanstore.Window{Start: s.at.Add(-100 * time.Hour), End: s.at.Add(-99 * time.Hour)})
	if err != nil || slices.ContainsFunc(got, func(d spanstore.Dependency) bool { return d.Parent == edge }) {
		s.Errorf("dependencies days before: got %v and %v", got, err)
	}
}

func byParent(a, b spanstore.Dependency) int {
	if a.Parent != b.Parent {
		if a.Parent < b.Parent {
			return -1
		}
		return 1
	}
	if a.Child < b.Child {
		return -1
	}
	if a.Child > b.Child {
		return 1
	}
	return 0
}
