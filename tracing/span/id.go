package span

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// ParseTraceID reads 1 to 32 hex digits; shorter ones, as the 64-bit ids of old
// senders, are the low end.
func ParseTraceID(s string) (id TraceID, err error) {
	err = parseHex(id[:], s, "trace id")
	return id, err
}

// ParseID reads 1 to 16 hex digits; shorter ones are the low end.
func ParseID(s string) (id ID, err error) {
	err = parseHex(id[:], s, "span id")
	return id, err
}

func parseHex(dst []byte, s, what string) error {
	if s == "" || len(s) > 2*len(dst) {
		return fmt.Errorf("%s %.40q has %d characters, want 1 to %d hex digits", what, s, len(s), 2*len(dst))
	}
	if _, err := hex.Decode(dst, []byte(strings.Repeat("0", 2*len(dst)-len(s))+s)); err != nil {
		return fmt.Errorf("%s %q: want hex digits", what, s)
	}
	return nil
}
