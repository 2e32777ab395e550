package drill

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/client"
	"dems/client/drill/history"
	"dems/client/drill/report"
)

// TestInterrupted ends a drill in the middle of each scenario: everything is mended, and there is a report.
func TestInterrupted(t *testing.T) {
	for _, name := range Scenarios() {
		for _, at := range []string{"kill", "pause", "restart", "partition", "latency", "wrong"} {
			interrupted := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				d := w.drill(Config{Scenario: name, Rounds: 3})
				ctx, interrupt := context.WithCancel(t.Context())
				defer interrupt()
				w.hook = func(done string) {
					if strings.HasPrefix(done, at) {
						interrupted = true
						interrupt()
					}
				}
				r, err := d.run(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if !interrupted {
					return
				}
				w.stop()
				did := w.did()
				if last := did[len(did)-2:]; !slices.Equal(last, []string{"heal", "end faults"}) {
					t.Errorf("%s, interrupted by %s: at last %q", name, at, last)
				}
				for _, a := range w.actors {
					if !a.answers() {
						t.Errorf("%s, interrupted by %s: %+v", name, at, a)
					}
				}
				if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "interrupted after 1 round") || len(r.Rounds) != 1 || r.Operations.Acknowledged == 0 {
					t.Errorf("%s, interrupted by %s: notes %q, %d rounds, %+v", name, at, r.Notes, len(r.Rounds), r.Operations)
				}
			})
		}
	}
}

// TestInterruptedBeforeTheFirstRound: nothing went wrong, but a drill that has broken nothing has not passed.
func TestInterruptedBeforeTheFirstRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		d := w.drill(Config{Scenario: "pause"})
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(warmUp/2, interrupt)
		r, err := d.run(ctx)
		if err != nil || len(r.Rounds) != 0 || len(r.Notes) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		expectBroken(t, r, "nothing was broken", notDone)
		if did := w.did(); slices.ContainsFunc(did, func(what string) bool { return strings.HasPrefix(what, "pause") }) {
			t.Errorf("%q", did)
		}
	})
}

// TestBrokenInvariants has the cluster do what it must not.
func TestBrokenInvariants(t *testing.T) {
	during := func(w *world, what string, do func()) {
		w.hook = func(done string) {
			if strings.HasPrefix(done, what) {
				w.mu.Lock()
				defer w.mu.Unlock()
				do()
			}
		}
	}
	for _, test := range []struct {
		name, scenario string
		set            func(w *world, d *drill)
		said           string
		want           []invariant
	}{
		{"nobody is elected", "leader-kill", func(w *world, _ *drill) { w.elects = false },
			"leader-kill, round 1: not within 30s: another leader, after the drill killed the leader n1", []invariant{notResumed}},
		{"clients are not answered", "node-kill", func(w *world, _ *drill) {
			during(w, "kill", func() { w.frozen = true })
			w.later(3*time.Minute, func() { w.frozen = false })
		}, "clients are answered", []invariant{notResumed, unanswered}},
		{"a node does not come back", "pause", func(w *world, _ *drill) {
			during(w, "resume", func() { w.actors[0].down = true })
			w.refuses["heal"] = errors.New("cannot")
		}, "every node is a healthy voter (n1 is down, suffrage voter)", []invariant{notResumed, notDone, differingStates}},
		{"nobody is convicted", "wrong-results", func(w *world, _ *drill) { w.ignores[dems.WrongResults] = true },
			"not within 30s: the conviction of n3, incarnation 1", []invariant{notReplaced}},
		{"another one is accused, too", "wrong-state", func(w *world, _ *drill) {
			during(w, "wrong-state", func() { w.tell(dems.ConvictionIncident, w.actors[0], "") })
		}, "conviction of n1, incarnation 1, which is correct", []invariant{accused}},
		{"who was wrong is accused in its next life", "wrong-state", func(w *world, _ *drill) {
			during(w, "heal", func() { w.tell(dems.VerdictIncident, w.actors[2], "") })
		}, "verdict of n3, incarnation 2, which is correct", []invariant{accused}},
		{"who is late is accused", "pause", func(w *world, _ *drill) { w.blames = "n1" },
			"accusation of n1", []invariant{accused}},
		{"no answer has a majority", "slow-network", func(w *world, _ *drill) {
			during(w, "latency", func() { w.tell(dems.NoMajorityIncident, &actor{}, "three answers") })
		}, "three answers", []invariant{noMajority}},
		{"states differ for a moment", "slow-network", func(w *world, _ *drill) {
			during(w, "latency", func() {
				w.actors[1].digest = "another"
				w.later(time.Second, func() { w.actors[1].digest = "" })
			})
		}, "n2/1 has another", []invariant{differingStates}},
		{"states differ at the end", "slow-network", func(w *world, _ *drill) {
			during(w, "heal", func() { w.actors[1].digest = "another" })
		}, "at the end: not within 1m0s: all nodes have the same state (at index", []invariant{differingStates}},
		{"a fault cannot be injected", "slow-network", func(w *world, _ *drill) { w.refuses["latency"] = errors.New("no such fault") },
			"latency at n3: no such fault", []invariant{notDone}},
		{"a process cannot be killed", "leader-kill", func(w *world, _ *drill) { w.refuses["kill"] = errors.New("not permitted") },
			"leader-kill, round 1: not permitted", []invariant{notDone}},
		{"a process cannot be started", "leader-kill", func(w *world, _ *drill) { w.refuses["start"] = errors.New("no such image") },
			"no such image", []invariant{notDone}},
		{"leadership cannot be handed over", "wrong-results", func(w *world, _ *drill) { w.refuses["lead"] = errors.New("no") },
			"hand leadership over to n3: no", []invariant{notDone}},
		{"it cannot be mended", "leader-kill", func(w *world, _ *drill) { w.refuses["heal"] = errors.New("docker is gone") },
			"what was broken is not all mended; look at the cluster: docker is gone", []invariant{notDone}},
		{"the history is full", "slow-network", func(w *world, _ *drill) { during(w, "latency", func() { w.full = true }) },
			"the rounds ended early: the history is full", []invariant{notDone}},
		{"clients do not learn what became of everything", "slow-network", func(w *world, _ *drill) { w.settles = errors.New("3 are unknown") },
			"3 are unknown", []invariant{notDone}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, w := play(t, 3, Config{Scenario: test.scenario, Rounds: 2}, test.set)
			expectBroken(t, r, test.said, test.want...)
			if done := w.done; done[len(done)-1] != "clear" {
				t.Errorf("at last: %q", done[len(done)-1])
			}
		})
	}
}

// TestSomebodyElseIsElected has handing over leadership fail twice: it is tried again.
func TestSomebodyElseIsElected(t *testing.T) {
	r, w := play(t, 3, Config{Scenario: "wrong-results", Rounds: 1}, func(w *world, _ *drill) {
		tried := 0
		w.refuses["lead"] = &client.Error{Code: dems.Indeterminate, Detail: "n1 leads"}
		w.hook = func(done string) {
			if !strings.HasPrefix(done, "lead") {
				return
			}
			if tried++; tried == 2 {
				w.mu.Lock()
				defer w.mu.Unlock()
				clear(w.refuses)
			}
		}
	})
	expectPassed(t, r, 1)
	leads := slices.DeleteFunc(w.did(), func(what string) bool { return what != "lead n3" })
	if len(leads) != 3 {
		t.Errorf("tried %d times", len(leads))
	}
}

// TestGivesUp: what fails three times in a row is not tried for ever.
func TestGivesUp(t *testing.T) {
	r, w := play(t, 3, Config{Scenario: "leader-kill", Rounds: 100}, func(w *world, _ *drill) { w.refuses["kill"] = errors.New("not permitted") })
	expectBroken(t, r, "3 rounds in a row failed", notDone)
	if did := w.did(); len(did) > 20 {
		t.Errorf("%q", did)
	}
}

// TestWrongAnswers are told with what the load found.
func TestWrongAnswers(t *testing.T) {
	r, _ := play(t, 3, Config{Scenario: "slow-network", Rounds: 1}, func(_ *world, d *drill) {
		d.judge = func(context.Context, []history.Operation) Judgement {
			return Judgement{Histories: report.Histories{Checked: 9, NotLinearizable: 1}, Wrong: report.Invariant{Name: "wrong answers", Broken: 1}, Order: judgeOrder(nil)}
		}
	})
	if objections := r.Objections(); r.Passed || objections[0] != "wrong answers: once" || r.Histories.Checked != 9 {
		t.Errorf("%q, %+v", objections, r.Histories)
	}
}

// TestFindingsOfTheLoad are part of the report, and before everything else.
func TestFindingsOfTheLoad(t *testing.T) {
	r, _ := play(t, 3, Config{Scenario: "slow-network", Rounds: 1}, func(w *world, _ *drill) {
		w.findings = []report.Invariant{{Name: "lost", Broken: 2}}
	})
	if r.Passed || r.Invariants[0].Name != "lost" || r.Invariants[0].Broken != 2 {
		t.Errorf("%+v", r.Invariants)
	}
}

// TestFullHistory ends a drill that goes by the clock; nothing is wrong with that.
func TestFullHistory(t *testing.T) {
	r, _ := play(t, 3, Config{Scenario: "slow-network", Duration: time.Hour}, func(w *world, _ *drill) {
		w.later(10*time.Second, func() { w.full = true })
	})
	if !r.Passed || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "the history is full") {
		t.Errorf("%q, %q", r.Objections(), r.Notes)
	}
}

// TestUnanswered counts operations that failed.
func TestUnanswered(t *testing.T) {
	r, _ := play(t, 3, Config{Scenario: "slow-network", Rounds: 1}, func(w *world, d *drill) {
		prepare := d.prepare
		d.prepare = func(ctx context.Context) (load, error) {
			pending, err := d.recorder.Begin(1, 1, dems.Command{Op: dems.BookEvent, Key: "k"})
			if err != nil {
				t.Error(err)
			}
			pending.Fail(errors.New("503 unavailable"))
			return prepare(ctx)
		}
	})
	expectBroken(t, r, "503 unavailable", unanswered)
}

// TestClusterThatIsNotReady begins nothing.
func TestClusterThatIsNotReady(t *testing.T) {
	notFound := &client.Error{Code: dems.NotFound, Detail: "Node n2 takes no faults."}
	for _, test := range []struct {
		name, scenario string
		nodes          int
		set            func(w *world)
		said           string
		code           dems.Code
	}{
		{"two nodes", "leader-kill", 2, nil, "at least 3 nodes", dems.Internal},
		{"a node is down", "leader-kill", 3, func(w *world) { w.actors[2].down = true }, "n3 is down", dems.Unavailable},
		{"nobody answers", "leader-kill", 3, func(w *world) { w.refuses["end faults"] = &client.Error{Code: dems.Unavailable} }, "unavailable", dems.Unavailable},
		{"another cluster", "leader-kill", 3, func(w *world) { w.serves = errors.New("give the --endpoint") }, "--endpoint", dems.Internal},
		{"not for drills", "wrong-state", 3, func(w *world) { w.refuses["end faults"] = notFound }, "DEMSD_ENABLE_FAULTS=true", dems.Internal},
		{"not for drills, all", All, 3, func(w *world) { w.refuses["end faults"] = notFound }, "--enable-faults", dems.Internal},
		{"one node not for drills", "partition", 3, func(w *world) { w.refuses["slow n2"] = notFound }, "Node n2 takes no faults", dems.Internal},
		{"a node does not answer", "partition", 3, func(w *world) { w.refuses["slow n2"] = &client.Error{Code: dems.Unavailable} }, "does n2 take faults?", dems.Unavailable},
		{"no events can be made", "pause", 3, func(w *world) { w.refuses["prepare"] = errors.New("no cities") }, "no cities", dems.Internal},
	} {
		t.Run(test.name, func(t *testing.T) {
			keep := filepath.Join(t.TempDir(), "kept")
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, test.nodes)
				if test.set != nil {
					test.set(w)
				}
				r, err := w.drill(Config{Scenario: test.scenario, Keep: keep}).run(t.Context())
				if err == nil || !strings.Contains(err.Error(), test.said) || dems.CodeOf(err) != test.code {
					t.Errorf("%v (%s), report %v", err, dems.CodeOf(err), r)
				}
				if w.ran || slices.Contains(w.done, "clear") {
					t.Error("it began all the same")
				}
			})
			if _, err := os.Stat(keep); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a folder is left behind: %v", err)
			}
		})
	}
}

// TestFaultsAreNotNeeded: who is started without --enable-faults can be killed all the same.
func TestFaultsAreNotNeeded(t *testing.T) {
	r, _ := play(t, 3, Config{Scenario: "leader-kill", Rounds: 1}, func(w *world, _ *drill) {
		w.refuses["end faults"] = &client.Error{Code: dems.NotFound}
	})
	expectPassed(t, r, 1)
}

// TestClusterThatHasJustStarted is waited for.
func TestClusterThatHasJustStarted(t *testing.T) {
	r, _ := play(t, 3, Config{Scenario: "slow-network", Rounds: 1}, func(w *world, _ *drill) {
		w.actors[1].down = true
		w.later(2*time.Second, func() { w.actors[1].down = false })
	})
	expectPassed(t, r, 1)
}
