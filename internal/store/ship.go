package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-dev/weir/internal/store/bucket"
	"github.com/weir-dev/weir/internal/store/tiers"
)

// openBucket makes the shipping part, if there is a bucket. Nothing is asked of it
// yet.
func (s *Store) openBucket(cfg *Config) error {
	if !cfg.Bucket.On() {
		return nil
	}
	b, err := bucket.New(cfg.Bucket, bucket.Deps{
		Durable: func() (list []bucket.Durable) {
			for _, d := range s.tiers.Durable() {
				list = append(list, bucket.Durable(d))
			}
			return list
		},
		Changed: s.tiers.Changed(), Keep: s.keep, Newest: s.tiers.Newest, Dir: cfg.Dir, Log: s.log, Registerer: s.reg, Now: time.Now,
	})
	if err != nil {
		return fmt.Errorf("open bucket (store.bucket): %w", err)
	}
	s.bucket.Store(b)
	return nil
}

// keep is how long blocks of a resolution stay in the bucket; 0 is for ever.
func (s *Store) keep(resolution int64) time.Duration {
	cfg := s.cfg.Load()
	if resolution == 0 {
		return cfg.Retention.Time.Std()
	}
	for _, r := range cfg.Rollups {
		if r.Resolution.Std().Milliseconds() == resolution {
			return r.Keep.Std()
		}
	}
	return 0
}

// remote is the bucket for the tiers; a nil pointer would not be a nil interface.
func (s *Store) remote() tiers.Remote {
	if b := s.bucket.Load(); b != nil {
		return b
	}
	return nil
}

// Bucket is where blocks are shipped to, nil when there is none or the store has not
// been opened.
func (s *Store) Bucket() *bucket.Bucket { return s.bucket.Load() }

// watchBucket tells the tiers what is in the bucket until ctx ends.
func (s *Store) watchBucket(ctx context.Context, b *bucket.Bucket) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.RemoteChanged():
			s.tiers.SetRemote(b.Remote())
		}
	}
}

// closeWait bounds how long closing waits for queries that still read rollups.
// Appenders and queriers are to be closed before, so they are on their way out.
const closeWait = 10 * time.Second

func (s *Store) closeTiers() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	err := s.tiers.Close(ctx)
	if b := s.bucket.Swap(nil); b != nil {
		err = errors.Join(err, b.Close())
	}
	return err
}
