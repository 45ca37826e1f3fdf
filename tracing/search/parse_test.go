package search

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func TestParseNormalForm(t *testing.T) {
	for text, want := range map[string]string{
		"":      "",
		"  \t ": "",
		"service=checkout && duration>200ms && http.status_code>=500": "service=checkout && duration>200ms && http.status_code>=500",
		" service = checkout&&root ":                                  "service=checkout && root",
		`operation="GET /cart"`:                                       `operation="GET /cart"`,
		"name=`a\"b`":                                                 `name="a\"b"`,
		`"service"=x && "db.system"=y && "root"`:                      `"service"=x && db.system=y && "root"`,
		`k=""`:                                                        `k=""`,
		`a=~"x|y"&&b!~z.*`:                                            `a=~"x|y" && b!~z.*`,
		"{service=A} -> {service=B}":                                  "{service=A} -> {service=B}",
		"{service=A}->>{service=B && status=error}->{}":               "{service=A} ->> {service=B && status=error} -> {}",
		"{root} && {a<5}":                                             "{root} && {a<5}",
		"{ root }":                                                    "root",
		"größe=5 && a=x-y":                                            "größe=5 && a=x-y",
		"retried":                                                     "retried",
	} {
		q, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := q.String(); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]string{
		"operation=GET /cart":         `column 15: got "/cart", want "&&" or the end; a value with spaces or signs stands in quotes`,
		"a=1 || b=2":                  `column 5: got "||", want "&&" or the end; alternatives are a pattern: a=~"a|b"`,
		"a=1 -> b=2":                  `column 5: got "->", want "&&" or the end; selectors of a structure stand in braces: {a=1} -> {b=2}`,
		"op=/cart/{id}":               `column 10: got "{", want "&&" or the end; a value with spaces or signs stands in quotes`,
		"a==1":                        `column 3: got "=", want a value`,
		"a=":                          `column 3: got the end, want a value`,
		"a &&":                        `column 5: got the end, want a key`,
		"&& a":                        `column 1: got "&&", want a key`,
		"größe ? 5":                   `column 7: got "?", want "&&" or the end`,
		`a="x`:                        `column 3: the quoted value has no end, or an escape that Go does not know`,
		"größe=\xff":                  `column 7: the text is not UTF-8`,
		`""=x`:                        `column 1: got an empty key`,
		"{a=1":                        `column 5: got the end, want "&&" or "}"`,
		"{a=1} {b=2}":                 `column 7: got "{", want "->", "->>", "&&" or the end`,
		"{a=1} ->":                    `column 9: got the end, want a selector: "{"`,
		"{a=1} && b=2":                `column 10: got "b", want a selector: "{"`,
		"{a=1}}":                      `column 6: got "}", want "->", "->>", "&&" or the end`,
		"duration>5":                  `column 10: got duration "5", want one such as 1.5s, 200ms or 1h30m`,
		"duration!=5s":                `column 1: got duration!=, want duration with one of < <= > >= =`,
		"duration<0s":                 `column 1: no duration is below 0s`,
		"duration":                    `column 1: duration stands alone, want one of < <= > >= = and a value behind it`,
		"a=1 && status=bad":           `column 15: got status "bad", want ok, error or unset`,
		"status>ok":                   `column 1: got status>, want status with one of = !=`,
		"kind=web":                    `column 6: got kind "web", want internal, server, client, producer, consumer or unspecified`,
		"root=1":                      `column 1: got root=, want root alone (an attribute of that name goes into quotes)`,
		"service>a":                   `column 1: got service>, want service with one of = != =~ !~`,
		`a=~"("`:                      `column 4: "(" is no pattern of RE2: missing closing ): ` + "`^(?s:()$`",
		"'a'=1":                       `column 1: got "'", want a key`,
		strings.Repeat("a && ", 60):   `column 296: got more than 59 terms`,
		strings.Repeat("{}&&", 17):    `column 66: got more than 16 selectors`,
		strings.Repeat("x", 9<<10):    `column 1: it is longer than 8192 bytes`,
		strings.Repeat("x", 50) + "}": `column 51: got "}", want "&&" or the end`,
	} {
		_, err := Parse(text)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%.60s: got %v", text, err)
		} else if got := strings.TrimPrefix(err.Error(), "query, "); got != want {
			t.Errorf("%.60s:\n got %s\nwant %s", text, got, want)
		}
	}
}

// What the store can look for, it is asked for.
func TestStoreQuery(t *testing.T) {
	yes, no := true, false
	for text, want := range map[string]spanstore.Query{
		"service=a && operation=b && kind=server && root": {Service: "a", Operation: "b", Kind: span.KindServer, Root: true},
		"status=error": {Error: &yes},
		"status=ok":    {Error: &no},
		"duration>200ms && duration>=100ms && duration<1s": {MinDuration: 200*time.Millisecond + 1, MaxDuration: time.Second - 1},
		"duration<=0s": {},
		"service!=a":   {Where: []spanstore.Condition{{Key: "service.name", Op: "!=", Value: "a"}}},
		"http.status_code>=500 && retried": {Where: []spanstore.Condition{
			{Key: "http.status_code", Op: ">=", Value: "500"}, {Key: "retried", Op: "exists"},
		}},
		`operation=~"a.*"`: {},
	} {
		q, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.lead().query; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
	q, err := Parse("{service=a} ->> {service=b && status=error} -> {}")
	if err != nil || q.lead().text != "service=b && status=error" {
		t.Errorf("got %v and lead %q", err, q.lead().text)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"service=checkout && duration>200ms && http.status_code>=500", "{service=A} ->> {service=B && root} && {k=~\"a|b\"}",
		`"root"="\x01" && status!=ok`, "a=-", "{a=-}->{}", "größe!~`(`", "- > 5", "\"\x81\"", "kind!=unspecified && name=~x && duration=5ns",
	} {
		f.Add(text)
	}
	b := &span.Batch{Resources: []span.Resource{{Service: "A"}}, Spans: []span.Span{{ID: span.ID{1}, Name: "x", End: 5}, {ID: span.ID{2}, Parent: span.ID{1}}}}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Column < 1 || syntax.Column > utf8.RuneCountInString(text)+1 {
				t.Fatalf("got %v", err)
			}
			return
		}
		if len(q.String()) > maxText { // quotes and spaces more than it came with
			return
		}
		again, err := Parse(q.String())
		if err != nil || again.String() != q.String() {
			t.Fatalf("%q is %q, which reads as %v, %v", text, q, again, err)
		}
		w := bounds{0, 10}
		if got, want := again.match(b, w), q.match(b, w); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q finds %v, its normal form %q %v", text, want, q, got)
		}
	})
}
