package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// MergeAll has the VictoriaMetrics at base write out and merge all it holds, as
// time would, and waits until it has.
func MergeAll(ctx context.Context, base string) error {
	for _, path := range []string{"/internal/force_flush", "/internal/force_merge"} {
		if _, err := GetStatus(ctx, base+path); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the forced merge: %w", ctx.Err())
		case <-time.After(time.Second):
		}
		text, err := getText(ctx, base+"/metrics")
		if err != nil {
			return fmt.Errorf("wait for the forced merge: %w", err)
		}
		if strings.Contains(text, "\nvm_active_force_merges 0\n") {
			return nil
		}
	}
}

func getText(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(resp.Body)
	return string(text), errors.Join(err, resp.Body.Close())
}
