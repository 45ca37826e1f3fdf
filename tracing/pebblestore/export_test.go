package pebblestore

import (
	"context"
	"fmt"
	"strings"
)

// Maintain and Tidy are what Run does, at once.
func (s *Store) Maintain() { s.maintain() }

func (s *Store) Tidy() { s.tidy(context.Background()) }

// Break lets the partition that takes spans fail as if the disk had.
func (s *Store) Break(err error) {
	p := s.current.Load()
	p.mu.Lock()
	h := p.h
	p.mu.Unlock()
	h.fs.broken(err)
}

// Rows are all rows of the oldest partition, in their order, as text.
func (s *Store) Rows() (string, error) {
	h, err := s.partitions()[0].acquire()
	if err != nil {
		return "", err
	}
	defer h.release()
	var out strings.Builder
	err = each(h.db, nil, func(key, value []byte) error {
		fmt.Fprintf(&out, "%+q\n", key)
		for len(value) > 0 {
			n := min(len(value), 32)
			fmt.Fprintf(&out, "\t%+q\n", value[:n])
			value = value[n:]
		}
		return nil
	})
	return out.String(), err
}

// FinishFirst closes the oldest partition without rewriting it.
func (s *Store) FinishFirst() error { return s.finish(s.partitions()[0]) }
