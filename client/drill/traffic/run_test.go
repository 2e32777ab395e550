package traffic

import (
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/client/drill/history"
)

// TestEveryGroupIsByItself runs traffic of few and of many clients and replays each group alone: the answers are the same, so
// nothing that the other groups did was seen, and everything comes back as the state machine gave it.
func TestEveryGroupIsByItself(t *testing.T) {
	crowds := []int{24, 2, 40}
	if slowdown > 1 {
		crowds = crowds[:1]
	}
	for _, clients := range crowds {
		synctest.Test(t, func(t *testing.T) {
			w := newWire(t)
			w.delay = time.Millisecond
			traffic, recorder := prepared(t, w, func(c *Config) { c.Clients = clients })
			runFor(t, w, traffic, 9_000)
			broken(t, traffic)
			operations := recorder.Operations()
			linearizable(t, operations)
			codes, groups := replay(t, operations)
			t.Logf("%d clients: %d operations in %d groups: %v", clients, len(operations), groups, codes)
			for _, code := range append([]dems.Code{dems.OK}, refusals...) {
				// With few clients there is no group in which an ID exists under two types.
				if codes[code] == 0 && (clients > 2 || code != dems.AmbiguousEventType) {
					t.Errorf("%s was never answered in %d operations of %d clients", code, len(operations), clients)
				}
			}
			done := make(map[dems.Outcome]int)
			for _, operation := range operations {
				if operation.Outcome != history.Answered {
					t.Fatalf("%+v", operation)
				}
				done[operation.Result.Outcome]++
				for _, affected := range operation.Result.Affected {
					done[affected.Outcome]++
				}
			}
			for outcome := dems.Created; outcome <= dems.Rebooked; outcome++ {
				if done[outcome] == 0 {
					t.Errorf("nothing was %s in %d operations of %d clients", outcome, len(operations), clients)
				}
			}
			if err := traffic.Clear(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left := count(t, w); left != 0 {
				t.Errorf("%d events are left", left)
			}
			if notes := traffic.Notes(); len(notes) > 0 {
				t.Errorf("notes %q", notes)
			}
		})
	}
}
