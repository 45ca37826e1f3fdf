package conf

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// Duration is a length of time, written as Prometheus writes it: "30s", "1h30m",
// "15d". The finest unit is the millisecond.
type Duration time.Duration

// Std returns the duration as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns the form that a file may hold: "1h30m"; zero is "0s".
func (d Duration) String() string {
	if d < 0 || d.Std()%time.Millisecond != 0 {
		return d.Std().String() // no file can say this, a faulty default can
	}
	return model.Duration(d).String()
}

// MarshalText returns what String returns.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a Prometheus duration; a bare number is refused, save 0.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := model.ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// Bytes is a size in bytes, written as a whole number with a unit of 1024 ("64MiB",
// "512KiB", "1GiB", "2TiB") or without one.
type Bytes int64

const (
	kib Bytes = 1 << (10 * (iota + 1))
	mib
	gib
	tib
)

var byteUnits = [...]struct { // largest first, so that String finds the shortest form
	name string
	size Bytes
}{{"TiB", tib}, {"GiB", gib}, {"MiB", mib}, {"KiB", kib}}

// String returns the shortest exact form: "64MiB", "1500", "0".
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText returns what String returns.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// MarshalYAML writes a size without unit as a number.
func (b Bytes) MarshalYAML() (any, error) {
	if s := b.String(); strings.HasSuffix(s, "B") {
		return s, nil
	}
	return int64(b), nil
}

// UnmarshalText reads a size. Units of 1000 (KB, MB) are refused, because half of
// the world means 1024 by them.
func (b *Bytes) UnmarshalText(text []byte) error {
	number, unit := string(text), Bytes(1)
	for _, u := range byteUnits {
		if s, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(s), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return fmt.Errorf("read size %q: %w", text, errors.Unwrap(err))
	}
	if n > math.MaxInt64/int64(unit) || n < math.MinInt64/int64(unit) {
		return fmt.Errorf("read size %q: more than 8 EiB", text)
	}
	*b = Bytes(n) * unit
	return nil
}

// Secret is text that is never printed: formatted, marshalled or logged it reads
// "<redacted>", or "" when empty.
type Secret string

const redacted = "<redacted>"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format hides the secret from every verb, also from those that do not call
// String.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		fmt.Fprintf(f, "%q", s.String())
		return
	}
	fmt.Fprint(f, s.String())
}

// MarshalText hides the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
