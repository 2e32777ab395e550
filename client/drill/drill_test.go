package drill

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"dems"
	"dems/client"
	"dems/client/drill/report"
)

// play runs a drill in a bubble and returns its report.
func play(t *testing.T, nodes int, config Config, set func(w *world, d *drill)) (*report.Report, *world) {
	t.Helper()
	var got *report.Report
	var played *world
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nodes)
		d := w.drill(config)
		if set != nil {
			set(w, d)
		}
		var err error
		if got, err = d.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.stop()
		played = w
	})
	return got, played
}

// expectPassed checks that a drill passed with that many rounds.
func expectPassed(t *testing.T, r *report.Report, rounds int) {
	t.Helper()
	if !r.Passed {
		t.Errorf("objections: %q", r.Objections())
		for _, invariant := range r.Invariants {
			for _, example := range invariant.Examples {
				t.Errorf("%s: %s", invariant.Name, example)
			}
		}
	}
	if len(r.Rounds) != rounds {
		t.Errorf("%d rounds, want %d", len(r.Rounds), rounds)
	}
	for _, round := range r.Rounds {
		if round.At <= 0 || round.HealedAt < round.At || round.EndedAt < round.HealedAt || round.What == "" {
			t.Errorf("round %+v", round)
		}
	}
}

// broken returns how often an invariant was broken.
func broken(r *report.Report, of invariant) (uint64, string) {
	for _, i := range r.Invariants {
		if i.Name == invariantTexts[of].name {
			return i.Broken, strings.Join(i.Examples, "\n")
		}
	}
	return 0, ""
}

// expectBroken checks that exactly these invariants are broken, and what is said of the first of them.
func expectBroken(t *testing.T, r *report.Report, said string, wanted ...invariant) {
	t.Helper()
	if r.Passed {
		t.Error("the drill has passed")
	}
	for of := range invariantCount {
		count, examples := broken(r, of)
		if (count > 0) != slices.Contains(wanted, of) {
			t.Errorf("%s: broken %d times: %s", invariantTexts[of].name, count, examples)
		}
	}
	if _, examples := broken(r, wanted[0]); !strings.Contains(examples, said) {
		t.Errorf("%s: %q is not in: %s", invariantTexts[wanted[0]].name, said, examples)
	}
}

// TestScenarios does some rounds of each scenario, and looks at what was done in which order.
func TestScenarios(t *testing.T) {
	for _, test := range []struct {
		scenario string
		rounds   int
		nodes    int
		want     []string
	}{
		{"leader-kill", 2, 3, []string{"end faults", "kill n1", "start n1", "kill n2", "start n2", "heal", "end faults"}},
		{"node-kill", 3, 3, []string{"end faults", "kill n2", "start n2", "kill n3", "start n3", "kill n1", "start n1", "heal", "end faults"}},
		{"pause", 2, 3, []string{"end faults", "pause n1", "resume n1", "pause n3", "resume n3", "heal", "end faults"}},
		{"partition", 5, 3, []string{"end faults", "end faults", "partition n1 both frontends,n2,n3",
			"partition n2 both n1,n3", "end faults", "partition n1 outgoing frontends,n2,n3",
			"partition n2 incoming frontends,n1,n3", "partition n1 both frontends", "heal", "end faults"}},
		{"partition", 2, 5, []string{"end faults", "end faults", "partition n1 both frontends,n2,n3,n4,n5",
			"partition n1 both n5,n4,n3", "partition n2 both n5,n4,n3", "end faults", "heal", "end faults"}},
		{"slow-network", 3, 3, []string{"end faults", "end faults", "latency n3", "end faults", "latency n1", "end faults",
			"latency n1", "latency n2", "latency n3", "end faults", "heal", "end faults"}},
		{"wrong-results", 2, 3, []string{"end faults", "end faults", "lead n3", "wrong-results n3", "end faults", "wrong-results n2", "end faults", "heal", "end faults"}},
		{"wrong-state", 2, 3, []string{"end faults", "end faults", "lead n3", "wrong-state n3", "end faults", "wrong-state n2", "end faults", "heal", "end faults"}},
		{"rolling-restart", 1, 3, []string{"end faults", "restart n2", "restart n3", "restart n1", "heal", "end faults"}},
	} {
		t.Run(test.scenario, func(t *testing.T) {
			r, w := play(t, test.nodes, Config{Scenario: test.scenario, Rounds: test.rounds}, nil)
			expectPassed(t, r, test.rounds)
			if diff := cmp.Diff(test.want, w.did()); diff != "" {
				t.Errorf("%s", diff)
			}
		})
	}
}

// TestAllTakesTurns has one round of each scenario, and then another one.
func TestAllTakesTurns(t *testing.T) {
	r, _ := play(t, 5, Config{Scenario: All, Rounds: 2}, nil)
	expectPassed(t, r, 2*len(scenarios))
	for i, round := range r.Rounds {
		if round.Scenario != Scenarios()[i%len(scenarios)] || round.Number != 1+i/len(scenarios) {
			t.Errorf("round %d is the %d. of %s", i+1, round.Number, round.Scenario)
		}
	}
}

// TestTimes looks at what a report says of times: they are those of the played cluster, and what it takes to see them.
func TestTimes(t *testing.T) {
	near := func(what string, got float64, want time.Duration) {
		t.Helper()
		least, most := milliseconds(want), milliseconds(want+2*lookInterval)
		if got < least || got > most {
			t.Errorf("%s: %v ms, want %v to %v", what, got, least, most)
		}
	}
	r, _ := play(t, 3, Config{Scenario: "leader-kill", Rounds: 1}, nil)
	round := r.Rounds[0]
	near("elected", round.ElectMS, electionTakes)
	near("paused", round.WritePauseMS, electionTakes-5*time.Millisecond)
	if round.Node != "n1" || round.What != "killed the leader n1" || round.ConvictMS != 0 || round.RepairMS < milliseconds(startTakes) {
		t.Errorf("%+v", round)
	}
	if round.EndedAt-round.At < round.RepairMS/1000 {
		t.Errorf("repaired after %v ms, but over after %v s", round.RepairMS, round.EndedAt-round.At)
	}
	if len(r.Leaders) != 2 || r.Leaders[0].Node != "n1" || r.Leaders[0].To != r.Leaders[1].From || r.Leaders[1].Node != "n2" || r.Leaders[1].Term != 3 || r.Leaders[1].To != r.Seconds {
		t.Errorf("leaders %+v until %v", r.Leaders, r.Seconds)
	}
	if len(r.Incidents) != 1 || r.Incidents[0].Kind != "leader-change" || r.Incidents[0].At < r.Rounds[0].At {
		t.Errorf("incidents %+v", r.Incidents)
	}
	r, _ = play(t, 3, Config{Scenario: "wrong-state", Rounds: 1}, nil)
	near("convicted", r.Rounds[0].ConvictMS, convictTakes)
	near("votes again", r.Rounds[0].RepairMS, convictTakes+removeTakes+rejoinTakes)
	r, _ = play(t, 3, Config{Scenario: "slow-network", Rounds: 1}, nil)
	if round := r.Rounds[0]; round.ElectMS+round.ConvictMS+round.RepairMS != 0 || round.HealedAt-round.At < slowFor.Seconds() {
		t.Errorf("%+v", round)
	}
}

func TestDisconnected(t *testing.T) {
	r, w := play(t, 3, Config{Scenario: "partition", Rounds: 1}, func(w *world, d *drill) { d.config.Target = networked{w} })
	expectPassed(t, r, 1)
	want := []string{"end faults", "end faults", "disconnect n1", "connect n1", "heal", "end faults"}
	if diff := cmp.Diff(want, w.did()); diff != "" {
		t.Error(diff)
	}
}

// TestQuarantine makes nodes wrong so often that they are put into quarantine: they are let in by hand, and the report says so.
func TestQuarantine(t *testing.T) {
	r, w := play(t, 3, Config{Scenario: "wrong-results", Rounds: 10}, func(w *world, _ *drill) {
		w.refuses["replace"] = &client.Error{Code: dems.Unavailable, Detail: "another node is being replaced"}
		tried := 0
		w.hook = func(done string) {
			if strings.HasPrefix(done, "replace") {
				if tried++; tried == 2 {
					w.mu.Lock()
					defer w.mu.Unlock()
					clear(w.refuses)
				}
			}
		}
	})
	expectPassed(t, r, 10)
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "let in again by hand") || !strings.Contains(r.Rounds[9].What, "quarantined") {
		t.Errorf("notes %q, last round %+v", r.Notes, r.Rounds[9])
	}
	removed := map[string]int{}
	for i, round := range r.Rounds {
		removed[round.Node]++
		if leads := strings.Contains(round.What, "leader"); leads != (i%2 == 0) {
			t.Errorf("round %d: %s", i+1, round.What)
		}
	}
	for id, count := range removed {
		if count < 3 || count > 4 {
			t.Errorf("%s was removed %d times", id, count)
		}
	}
	if did := w.did(); !slices.ContainsFunc(did, func(what string) bool { return strings.HasPrefix(what, "replace n") }) {
		t.Errorf("nobody was replaced by hand: %q", did)
	}
}

// TestRemovalsBefore spares the nodes that were removed lately.
func TestRemovalsBefore(t *testing.T) {
	r, _ := play(t, 3, Config{Scenario: "wrong-results", Rounds: 2}, func(w *world, _ *drill) {
		for range 2 {
			w.tell(dems.RemovalIncident, w.actors[0], "")
			w.tell(dems.RemovalIncident, w.actors[2], "")
		}
	})
	expectPassed(t, r, 2)
	for _, round := range r.Rounds {
		if round.Node != "n2" {
			t.Errorf("%s was made wrong, and n2 was removed least", round.Node)
		}
	}
}

// TestDuration begins rounds until the time is over, and finishes the last one.
func TestDuration(t *testing.T) {
	var told []Progress
	rounds := 0
	r, _ := play(t, 3, Config{
		Scenario: "slow-network", Duration: 10 * time.Second,
		Progress: func(p Progress) { told = append(told, p) }, Round: func(report.Round) { rounds++ },
	}, nil)
	expectPassed(t, r, 4)
	if rounds != 4 {
		t.Errorf("told of %d rounds", rounds)
	}
	if len(told) < 10 {
		t.Fatalf("told %d times in %v s", len(told), r.Seconds)
	}
	if p := told[5]; p.Scenario != "slow-network" || p.Round < 1 || p.Rounds != 0 || p.PerSecond < 150 || p.Leader != "n1" || p.Failed != 0 || p.Doing == "" {
		t.Errorf("%+v", p)
	}
	// Both together: whichever comes first.
	r, _ = play(t, 3, Config{Scenario: "slow-network", Duration: 10 * time.Second, Rounds: 2}, nil)
	expectPassed(t, r, 2)
}

// TestNothingWasBroken: a drill that has broken nothing has not passed.
func TestNothingWasBroken(t *testing.T) {
	r, _ := play(t, 3, Config{Scenario: "pause", Rounds: 1}, func(_ *world, d *drill) {
		d.scenarios = nil // as where the time is over before the first round
	})
	if len(r.Rounds) != 0 {
		t.Fatalf("%d rounds", len(r.Rounds))
	}
	expectBroken(t, r, "nothing was broken", notDone)
}

// TestLongDrill: rounds keep their distance, so that there are not too many.
func TestLongDrill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newWorld(t, 3).drill(Config{Scenario: "pause", Duration: MaxDuration})
		rounds := 0
		d.scenarios = []scenario{{name: "nothing", run: func(context.Context, *round) error { rounds++; return nil }}}
		if err := d.rounds(t.Context()); err != nil || rounds != MaxRounds {
			t.Errorf("%d rounds in a day, %v", rounds, err)
		}
	})
}

// TestOneDrillIsLikeTheOther: the seed decides.
func TestOneDrillIsLikeTheOther(t *testing.T) {
	order := func(seed uint64) string {
		_, w := play(t, 5, Config{Scenario: "node-kill", Rounds: 10, Seed: seed}, nil)
		return strings.Join(w.did(), ", ")
	}
	first := order(5)
	if first != order(5) || first == order(6) {
		t.Error("a seed does not decide who is killed")
	}
}
