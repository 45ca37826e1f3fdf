package store

import "testing"

func TestProgress(t *testing.T) {
	f := func(first, last, read int, want string) {
		t.Helper()
		if got := progress(first, last, read); got != want {
			t.Errorf("segments %d to %d, read %d: %q, want %q", first, last, read, got, want)
		}
	}
	f(0, 0, 0, "opening the database")
	f(0, 1, 0, "replaying WAL: segment 1 of 2 (0%)")
	f(7, 46, 7, "replaying WAL: segment 1 of 40 (0%)")
	f(7, 46, 19, "replaying WAL: segment 13 of 40 (30%)")
	f(7, 46, 46, "replaying WAL: segment 40 of 40 (97%)")
	f(7, 7, 7, "replaying WAL: segment 1 of 1 (0%)")
}
