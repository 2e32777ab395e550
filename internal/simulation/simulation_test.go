package simulation

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// The flags replay one seed with its whole trace, and play more seeds than usual: go test ./internal/simulation -args -seed 7.
var (
	replay = flag.Int64("seed", -1, "play this seed alone and print its trace")
	seeds  = flag.Int("seeds", 1000/slowdown, "how many seeds are played")
)

const (
	groups     = 4
	everyTwice = 10 // of so many seeds one is played twice
	shownLines = 50 // of the trace of a seed that fails
)

// TestSeeds plays many seeds. Whatever fails is played again by -seed.
func TestSeeds(t *testing.T) {
	if *replay >= 0 {
		outcome := Run(Options{Seed: uint64(*replay)})
		outcome.Trace(os.Stdout, 0)
		fmt.Printf("%+v\nhash %016x\n", outcome.Count, outcome.Hash())
		if outcome.Err != nil {
			t.Fatal(outcome.Err)
		}
		return
	}
	var mu sync.Mutex
	var all Counts
	t.Run("seeds", func(t *testing.T) {
		for group := range groups {
			t.Run(fmt.Sprint("group ", group), func(t *testing.T) {
				t.Parallel()
				for seed := group; seed < *seeds; seed += groups {
					outcome := Run(Options{Seed: uint64(seed)})
					if outcome.Err != nil {
						fail(t, uint64(seed), outcome)
					}
					if seed%everyTwice == 0 {
						playAgain(t, uint64(seed), outcome)
					}
					mu.Lock()
					all.add(&outcome.Count)
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d seeds: %+v", *seeds, all)
	if least := *seeds / 100; *seeds >= 100 && !all.reaches(least) {
		t.Errorf("of something there was less than %d times: %+v", least, all)
	}
}

// reaches tells whether everything that a simulation has to go through has come about so many times.
func (c *Counts) reaches(least int) bool {
	return min(c.Writes, c.Reads, c.Faults, c.Wrong, c.Reports, c.Accusations, c.HostileReports, c.Verdicts, c.Convictions, c.Removals,
		c.Rejoin, c.Quarantines, c.Elections, c.Crashes, c.Installs, c.Refusals, c.HandOvers) >= least
}

func fail(t *testing.T, seed uint64, outcome *Outcome) {
	t.Helper()
	outcome.Trace(os.Stdout, shownLines)
	t.Errorf("seed %d: %v; go test ./internal/simulation -run TestSeeds -args -seed %d", seed, outcome.Err, seed)
}

// playAgain checks that a seed gives the same trace again.
func playAgain(t *testing.T, seed uint64, first *Outcome) {
	t.Helper()
	if second := Run(Options{Seed: seed}); second.Hash() != first.Hash() || second.Count != first.Count {
		t.Errorf("seed %d gives another trace the second time: %016x, then %016x", seed, first.Hash(), second.Hash())
	}
}

// TestTrace shows that a trace tells what happened: other seeds, other traces, and the last lines are the last.
func TestTrace(t *testing.T) {
	one, other := Run(Options{Seed: 1}), Run(Options{Seed: 2})
	if one.Hash() == other.Hash() {
		t.Error("two seeds have the same trace")
	}
	var all, last strings.Builder
	one.Trace(&all, 0)
	one.Trace(&last, shownLines)
	if got := strings.Count(last.String(), "\n"); got != shownLines || !strings.HasSuffix(all.String(), last.String()) {
		t.Errorf("the last %d lines are %d", shownLines, got)
	}
	if !strings.Contains(last.String(), "all is well") {
		t.Errorf("the end is %s", last.String())
	}
}
