package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be an etcd member, as the program is one for itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == memberCommand {
		if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), []string{"-json", "-duration", "500ms", "-connections", "4", "-events", "150", "-dir", dir}, nil, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var reports []report
	if err := json.Unmarshal(stdout.Bytes(), &reports); err != nil {
		t.Fatal(err)
	}
	if len(reports) != 2 || reports[0].Events != 150 || reports[1].Events != 1 {
		t.Fatalf("reports: %+v", reports)
	}
	for _, r := range reports {
		if r.Bookings == 0 || r.Rate <= 0 || r.LatencyMs50 <= 0 || r.LatencyMs50 > r.LatencyMsMax {
			t.Errorf("report: %+v", r)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range []string{"-duration 0s", "-connections 0", "-events 0", "-read stale", "more", "-no-such-flag"} {
		var stdout, stderr bytes.Buffer
		if err := run(t.Context(), strings.Fields(args), nil, &stdout, &stderr); err == nil || stdout.Len() > 0 {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestPercentiles(t *testing.T) {
	var latency []time.Duration
	for i := range 1000 {
		latency = append(latency, time.Duration(i+1)*time.Millisecond)
	}
	for share, want := range map[float64]float64{0: 1, 0.5: 500, 0.9: 900, 0.99: 990, 0.999: 999, 1: 1000} {
		if got := percentile(latency, share); got != want {
			t.Errorf("percentile %v is %v, want %v", share, got, want)
		}
	}
	if got := percentile(nil, 0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	if err := writeTable(&out, []report{{Scenario: "hot", Events: 1, Connections: 64, Rate: 123.4}}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(out.String(), "\n"); len(lines) != 3 || !strings.Contains(lines[1], "123") {
		t.Errorf("table:\n%s", out.String())
	}
}

func TestRounds(t *testing.T) {
	var out strings.Builder
	rounds := []round{{100, 90, 200, 50, 3}, {300, 90, 200, 50, 3}, {120, 90, 240, 30, 3}}
	if err := writeRounds(&out, rounds); err != nil {
		t.Fatal(err)
	}
	want := `DEMS                 per second  beside         per second  ratio
bookings, spread     120         etcd           50          4.0
bookings, one event  90          etcd           3           30.0
verified reads       200         DEMS bookings  120         2.0
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestStoredEvent(t *testing.T) {
	if got, err := bookedSeats(eventValue(17)); err != nil || got != 17 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, value := range []string{"", "17", "a b"} {
		if _, err := bookedSeats(value); err == nil {
			t.Errorf("%q is an event", value)
		}
	}
}
