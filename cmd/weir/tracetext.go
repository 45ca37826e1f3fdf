package main

import (
	"math"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"golang.org/x/text/width"
)

// printable is text of strangers as a terminal may have it: what would move the cursor,
// turn the writing or start a line is replaced.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// cellsOf is how many columns of a terminal a rune takes.
func cellsOf(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func cells(s string) (n int) {
	for _, r := range s {
		n += cellsOf(r)
	}
	return n
}

// fit cuts s to n columns, with a sign of it, or fills it up.
func fit(s string, n int) string {
	if have := cells(s); have <= n {
		return s + strings.Repeat(" ", n-have)
	}
	var out strings.Builder
	used := 0
	for _, r := range s {
		if used+cellsOf(r) > n-1 {
			break
		}
		used += cellsOf(r)
		out.WriteRune(r)
	}
	return out.String() + "…" + strings.Repeat(" ", n-1-used)
}

// took prints seconds with three digits: 1.23s, 45.6ms, 789µs, 12ns.
func took(seconds float64) string {
	switch {
	case seconds == 0:
		return "0"
	case math.Abs(seconds) >= 59.95:
		return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
	}
	value, unit := seconds, "s"
	for _, smaller := range []string{"ms", "µs", "ns"} {
		if math.Abs(value) >= .9995 {
			break
		}
		value, unit = value*1000, smaller
	}
	return digits(value) + unit
}

// digits prints a number with three digits, or all before the point.
func digits(value float64) string {
	decimals := 0
	switch abs := math.Abs(value); {
	case abs < 9.995:
		decimals = 2
	case abs < 99.95:
		decimals = 1
	}
	text := strconv.FormatFloat(value, 'f', decimals, 64)
	if decimals > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// percent of a part.
func percent(part, whole float64) string {
	if whole == 0 {
		return "0%"
	}
	return digits(100*part/whole) + "%"
}

// counted is "1 span", "2 spans".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// utc prints a time for people, to the millisecond.
func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

// screen is what is printed on.
type screen struct {
	width   int
	colours bool
}

// screenOf c's output: of width columns, or as many as it has; 100 if it is no
// terminal.
func screenOf(c *cobra.Command, width int) screen {
	s := screen{width: width}
	if f, ok := c.OutOrStdout().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && width == 0 {
			s.width = columns
		}
	}
	if s.width == 0 {
		s.width = 100
	}
	s.width = min(max(s.width, 60), 1000)
	return s
}

// red is s in red where there are colours.
func (s screen) red(text string) string {
	if !s.colours || text == "" {
		return text
	}
	return "\x1b[31m" + text + "\x1b[0m"
}

// faint is s less bright where there are colours.
func (s screen) faint(text string) string {
	if !s.colours || text == "" {
		return text
	}
	return "\x1b[2m" + text + "\x1b[0m"
}
