package search

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SyntaxError says where a query cannot be read, and why.
type SyntaxError struct {
	Column int // in characters, from 1
	Text   string
}

// Error names the column.
func (e *SyntaxError) Error() string { return fmt.Sprintf("query, column %d: %s", e.Column, e.Text) }

// scanner reads the pieces of a query. Which there can be depends on what was before
// them, so that it is asked for one of a kind.
type scanner struct {
	text string
	at   int // byte
}

func (s *scanner) rest() string { return s.text[s.at:] }

func (s *scanner) space() {
	s.at += len(s.rest()) - len(strings.TrimLeftFunc(s.rest(), unicode.IsSpace))
}

// take takes a piece if it is next, after space.
func (s *scanner) take(piece string) bool {
	s.space()
	if !strings.HasPrefix(s.rest(), piece) {
		return false
	}
	s.at += len(piece)
	return true
}

// ended tells whether nothing but space is left.
func (s *scanner) ended() bool {
	s.space()
	return s.at == len(s.text)
}

// fault is an error at byte at.
func (s *scanner) fault(at int, format string, args ...any) *SyntaxError {
	return &SyntaxError{utf8.RuneCountInString(s.text[:at]) + 1, fmt.Sprintf(format, args...)}
}

// want is the error of finding something else next.
func (s *scanner) want(what string) *SyntaxError {
	s.space()
	return s.fault(s.at, "got %s, want %s", s.next(), what)
}

// next shows what comes next: a word, a sign, or the end.
func (s *scanner) next() string {
	rest := s.rest()
	if rest == "" {
		return "the end"
	}
	for _, sign := range []string{"&&", "||", "->>", "->", "=~", "!~", "!=", "<=", ">="} {
		if strings.HasPrefix(rest, sign) {
			return strconv.Quote(sign)
		}
	}
	n := length(rest, inWord)
	if n == 0 {
		_, n = utf8.DecodeRuneInString(rest)
	}
	if n > 40 {
		return strconv.Quote(strings.ToValidUTF8(rest[:40], "")) + "..."
	}
	return strconv.Quote(rest[:n])
}

// operators, longer ones first.
var operators = []string{"=~", "!~", "!=", "<=", ">=", "=", "<", ">"}

func (s *scanner) operator() (string, bool) {
	for _, op := range operators {
		if s.take(op) {
			return op, true
		}
	}
	return "", false
}

// inWord tells what a word without quotes may hold.
func inWord(r rune) bool {
	return !unicode.IsSpace(r) && unicode.IsPrint(r) && r != utf8.RuneError && !strings.ContainsRune("{}\"`'&|=!<>~", r)
}

// length of the run of what in admits; the arrow of a structure ends it.
func length(text string, in func(rune) bool) int {
	for i, r := range text {
		if !in(r) || r == '-' && strings.HasPrefix(text[i:], "->") {
			return i
		}
	}
	return len(text)
}

// word takes a key or a value; quoted tells that it was in quotes.
func (s *scanner) word(what string) (word string, quoted bool, err error) {
	s.space()
	rest := s.rest()
	if strings.HasPrefix(rest, "\"") || strings.HasPrefix(rest, "`") {
		prefix, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return "", true, s.fault(s.at, "the quoted %s has no end, or an escape that Go does not know", what)
		}
		word, err = strconv.Unquote(prefix)
		if err != nil || !utf8.ValidString(word) {
			return "", true, s.fault(s.at, "the quoted %s is not UTF-8", what)
		}
		s.at += len(prefix)
		return word, true, nil
	}
	n := length(rest, inWord)
	if n == 0 {
		return "", false, s.want("a " + what)
	}
	s.at += n
	return rest[:n], false, nil
}

// written is a word as a query has it, in quotes if it must be.
func written(word string) string {
	if word != "" && length(word, inWord) == len(word) {
		return word
	}
	return strconv.Quote(word)
}
