package main

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestLeaderOfEtcdIsKilled kills one real leader.
func TestLeaderOfEtcdIsKilled(t *testing.T) {
	var stderr bytes.Buffer
	result, err := killEtcd(t.Context(), settings{kills: 1}, t.TempDir(), &stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	// Nobody stands for election before the leader was silent for a second, the last heartbeat not counted.
	if len(result.Pauses) != 1 || result.Pauses[0] < 500 || result.Failed != 0 {
		t.Errorf("%+v\n%s", result, stderr.String())
	}
}

// TestLongestPause compares the pause with what looking at every moment gives.
func TestLongestPause(t *testing.T) {
	begin := time.Now()
	at := func(moment int) time.Time { return begin.Add(time.Duration(moment) * time.Millisecond) }
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		var samples []sample
		for range random.IntN(8) {
			from := random.IntN(60)
			samples = append(samples, sample{at(from), at(from + 1 + random.IntN(40))})
		}
		from, to := 10, 80
		longest, current := 0, 0
		for moment := from; moment < to; moment++ {
			waits, ended := false, false
			for _, s := range samples {
				waits = waits || !s.begin.After(at(moment)) && s.end.After(at(moment))
				ended = ended || s.end.Equal(at(moment))
			}
			if ended {
				current = 0
			}
			if current++; !waits {
				current = 0
			}
			longest = max(longest, current)
		}
		if got := longestPause(samples, at(from), at(to)); got != time.Duration(longest)*time.Millisecond {
			t.Errorf("seed %d: %v, want %d ms", seed, got, longest)
		}
	}
}

func TestKillsTable(t *testing.T) {
	var out strings.Builder
	err := writeKills(&out, kills{System: "DEMS", Pauses: []float64{80, 90, 85}, Checked: "all"}, kills{System: "etcd", Pauses: []float64{1500}, Failed: 2, Checked: "seats"})
	want := `leader killed  times  pause p50  p90      longest  failed  checked
DEMS           3      85 ms      90 ms    90 ms    0       all
etcd           1      1500 ms    1500 ms  1500 ms  2       seats
`
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}
