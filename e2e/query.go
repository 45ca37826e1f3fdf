package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Series is one element of a PromQL result.
type Series struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"` // of an instant vector: seconds, text
}

// Query asks the server at base for the instant vector of a PromQL expression now.
func Query(ctx context.Context, base, expr string) ([]Series, error) {
	var answer struct {
		Data struct{ Result []Series } `json:"data"`
	}
	err := GetJSON(ctx, base+"/api/v1/query?query="+url.QueryEscape(expr), &answer)
	return answer.Data.Result, err
}

// GetJSON decodes what url answers; anything but 200 is an error.
func GetJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("get %s: %w", url, err)
	}
	return nil
}
