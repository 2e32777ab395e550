//go:build linux

package test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// figures say how requests fared during a time.
type figures struct {
	answers       int
	p50, p99, max time.Duration
	slowestRead   time.Duration
	pause         time.Duration // the longest time in which no write of any writer was acknowledged
}

// String tells the figures for a log.
func (f figures) String() string {
	return fmt.Sprintf("%d answers, p50 %v, p99 %v, max %v, slowest read %v, longest pause between acknowledged writes %v",
		f.answers, rounded(f.p50), rounded(f.p99), rounded(f.max), rounded(f.slowestRead), rounded(f.pause))
}

// rounded rounds for people, to a tenth of a millisecond.
func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// between returns the figures of the requests that were on their way at some moment between two times.
func (tr *traffic) between(from, to time.Time) figures {
	var f figures
	var took []time.Duration
	acknowledged := []time.Time{from, to}
	for _, w := range tr.writers {
		w.mu.Lock()
		for _, s := range w.samples {
			if s.end.Before(from) || s.begin.After(to) {
				continue
			}
			latency := s.end.Sub(s.begin)
			took = append(took, latency)
			if !s.write {
				f.slowestRead = max(f.slowestRead, latency)
			} else if s.end.Before(to) {
				acknowledged = append(acknowledged, s.end)
			}
		}
		w.mu.Unlock()
	}
	slices.SortFunc(acknowledged, time.Time.Compare)
	for i, at := range acknowledged[1:] {
		f.pause = max(f.pause, at.Sub(acknowledged[i]))
	}
	f.answers, f.p50, f.p99, f.max = len(took), quantile(took, 0.5), quantile(took, 0.99), quantile(took, 1)
	return f
}

// quantile returns the smallest of the durations that is at least as great as that share of them, 0 of none.
func quantile(durations []time.Duration, share float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// looseFactor is how much longer things may take at the short scale, which runs on machines that do other things, too.
const looseFactor = 4

// expectWithin checks a duration against what docs/reliability.md claims.
func expectWithin(t *testing.T, what string, got, claimed time.Duration) {
	t.Helper()
	if limit := scale(looseFactor*claimed, claimed); got > limit {
		t.Errorf("%s: %v, at most %v wanted", what, rounded(got), limit)
	}
}

// TestFigures checks the arithmetic on times that are known.
func TestFigures(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	at := func(milliseconds int) time.Time { return begin.Add(time.Duration(milliseconds) * time.Millisecond) }
	tr := &traffic{writers: []*writer{
		{samples: []sample{{at(0), at(10), true}, {at(10), at(50), false}, {at(50), at(60), true}}},
		{samples: []sample{{at(5), at(25), true}, {at(25), at(95), true}, {at(300), at(310), true}}},
	}}
	for _, test := range []struct {
		from, to int
		want     figures
	}{
		{0, 100, figures{5, 20 * time.Millisecond, 70 * time.Millisecond, 70 * time.Millisecond, 40 * time.Millisecond, 35 * time.Millisecond}},
		{96, 300, figures{1, 10 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond, 0, 204 * time.Millisecond}},
		{400, 500, figures{pause: 100 * time.Millisecond}},
	} {
		if got := tr.between(at(test.from), at(test.to)); got != test.want {
			t.Errorf("%d to %d: %+v, want %+v", test.from, test.to, got, test.want)
		}
	}
}
