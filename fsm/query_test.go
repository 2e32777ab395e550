package fsm

import (
	"sync"
	"testing"

	"dems"
)

// TestQueryRefuses covers what is not a permitted read; none of it depends on the state.
func TestQueryRefuses(t *testing.T) {
	h := newHarness(t)
	h.want(dems.OK, add("TORM0001", "seminar", "TORM100519", 1))
	before := h.machine.Digest()
	for name, test := range map[string]struct {
		query dems.Query
		code  dems.Code
	}{
		"a mutation":  {dems.Query{Kind: dems.OperationQuery, Command: book("TORC0001", "seminar", "TORM100519")}, dems.MalformedRequest},
		"no kind":     {dems.Query{Command: dems.Command{Op: dems.GetEvent, By: user("TORM0001"), Event: key("seminar", "TORM100519")}}, dems.MalformedRequest},
		"no command":  {dems.Query{Kind: dems.OperationQuery}, dems.MalformedRequest},
		"unknown op":  {dems.Query{Kind: dems.OperationQuery, Command: dems.Command{Op: 100}}, dems.MalformedRequest},
		"no user":     {dems.Query{Kind: dems.OperationQuery, Command: dems.Command{Op: dems.GetEvent}}, dems.InvalidUserID},
		"no customer": {dems.Query{Kind: dems.OperationQuery, Command: dems.Command{Op: dems.GetBookingSchedule, By: user("TORM0001")}}, dems.InvalidUserID},
		"no event":    {dems.Query{Kind: dems.OperationQuery, Command: dems.Command{Op: dems.GetEvent, By: user("TORM0001")}}, dems.InvalidEventID},
		"no type":     {dems.Query{Kind: dems.OperationQuery, Command: dems.Command{Op: dems.ListEventAvailability, By: user("TORM0001")}}, dems.InvalidEventType},
		"role":        {dems.Query{Kind: dems.OperationQuery, Command: dems.Command{Op: dems.GetEvent, By: user("TORC0001"), Event: key("seminar", "TORM100519")}}, dems.ForbiddenRole},
		"customer":    {dems.Query{Kind: dems.OperationQuery, Command: dems.Command{Op: dems.GetBookingSchedule, By: user("TORC0001"), Customer: user("TORC0002")}}, dems.ForbiddenCustomer},
	} {
		answer := h.machine.Query(&test.query)
		results, err := dems.DecodeResults(answer.Result)
		if err != nil || len(results) != 1 || results[0].Code != test.code || answer.Version != 0 {
			t.Errorf("%s: version %d, %+v, %v; want %s", name, answer.Version, results, err, test.code)
		}
	}
	if h.machine.Recompute() != before {
		t.Error("a query changed the state")
	}
}

// TestQueriesRunConcurrently is for the race detector: everything that only reads, at once.
func TestQueriesRunConcurrently(t *testing.T) {
	h := newHarness(t)
	h.do(add("TORM0001", "seminar", "TORM100519", 9), withKey(book("TORC0001", "seminar", "TORM100519"), "k"), book("MTLC0001", "seminar", "TORM100519"))
	snapshot := h.machine.Snapshot()
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 20 {
				for _, command := range []dems.Command{
					{Op: dems.GetBookingSchedule, By: user("TORM0001"), Customer: user("TORC0001")},
					{Op: dems.GetEvent, By: user("TORM0001"), Event: key("seminar", "TORM100519")},
					{Op: dems.ListEventAvailability, By: user("TORM0001"), Event: dems.EventKey{Type: dems.Seminar}},
				} {
					if answer := h.machine.Query(&dems.Query{Kind: dems.OperationQuery, Command: command}); answer.Version != h.index {
						t.Errorf("version %d", answer.Version)
					}
				}
				h.machine.Query(&dems.Query{Kind: dems.RegistryQuery})
				if _, _, _, ok := h.machine.Batch(testSession, 1); !ok {
					t.Error("no batch")
				}
				digest := h.machine.Digest()
				if h.machine.Recompute() != digest || snapshot.Recompute() != digest || h.machine.CheckInvariants() != nil {
					t.Error("inconsistent")
				}
			}
		})
	}
	readers.Wait()
}

// TestOrderedReadsAnswerLikeQueries shows that a read is the same through the log, but for its sequence.
func TestOrderedReadsAnswerLikeQueries(t *testing.T) {
	h := newHarness(t)
	h.do(add("TORM0001", "seminar", "TORM100519", 2), add("MTLM0001", "seminar", "MTLM100519", 2), book("TORC0001", "seminar", "TORM100519"))
	for _, command := range []dems.Command{
		{Op: dems.GetBookingSchedule, By: user("TORC0001"), Customer: user("TORC0001")},
		{Op: dems.GetBookingSchedule, By: user("TORC0001"), Customer: user("TORC0002")},
		{Op: dems.GetEvent, By: user("MTLM0001"), Event: key("seminar", "TORM100519")},
		{Op: dems.GetEvent, By: user("MTLM0001"), Event: key("seminar", "TORA100519")},
		{Op: dems.ListEventAvailability, By: user("OTWM0001"), Event: dems.EventKey{Type: dems.Seminar}},
		{Op: dems.ListEventAvailability, By: user("TORC0001"), Event: dems.EventKey{Type: dems.Seminar}},
	} {
		answer := h.machine.Query(&dems.Query{Kind: dems.OperationQuery, Command: command})
		ordered := h.do(command)[0]
		if ordered.Sequence != h.index || len(h.last.Records) != 0 {
			t.Errorf("%s: sequence %d, %d records", command.Op, ordered.Sequence, len(h.last.Records))
		}
		ordered.Sequence = 0
		if got := dems.AppendResults(nil, []dems.Result{ordered}); string(got) != string(answer.Result) {
			t.Errorf("%s: %+v", command.Op, ordered)
		}
	}
}
