package tiers

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
)

// AuditFile is in the store's directory: one JSON object a line for each deletion by
// selector, when it is asked for and when it is done, and for each block that
// retention rewrites. It is appended to and never cut.
const AuditFile = "audit.log"

type auditLine struct {
	Time     time.Time   `json:"time"`
	What     string      `json:"what"` // "deletion asked", "deletion done", "retention"
	ID       string      `json:"id,omitempty"`
	Matchers string      `json:"matchers"`
	MinT     int64       `json:"mint"` // both inclusive, Unix milliseconds
	MaxT     int64       `json:"maxt"`
	Tier     string      `json:"tier,omitempty"`
	Blocks   []ulid.ULID `json:"blocks,omitempty"` // that were rewritten
}

func (t *Tiers) audit(line auditLine) (err error) {
	line.Time = t.now().UTC()
	b, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(t.cfg.Dir, AuditFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	if _, err = f.Write(append(b, '\n')); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}
