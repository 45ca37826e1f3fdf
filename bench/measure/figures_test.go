package measure

import "testing"

func TestMedian(t *testing.T) {
	if got := Median([]float64{1, 2, 9}); got != 2 {
		t.Errorf("median of three: got %v, want 2", got)
	}
	if got := Median([]float64{1, 2, 4, 9}); got != 3 {
		t.Errorf("median of four: got %v, want 3", got)
	}
}

func TestAnonymous(t *testing.T) {
	got := Anonymous([]string{"/a/b/prometheus", "-o", "results/x.txt", "--config.file=/tmp/z/c.yaml", "rw1 k=1"})
	if want := `prometheus -o results/x.txt --config.file=c.yaml "rw1 k=1"`; got != want {
		t.Errorf("anonymous: got %s, want %s", got, want)
	}
}
