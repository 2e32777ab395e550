package linearizability

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dems"
	"dems/client/drill/history"
)

func TestCheckSequences(t *testing.T) {
	const book, read = dems.BookEvent, dems.GetBookingSchedule
	type operation struct {
		op           dems.Op
		call, answer time.Duration
		sequence     uint64
		outcome      history.Outcome
	}
	const answered, failed, unknown = history.Answered, history.Failed, history.Unknown
	for name, test := range map[string]struct {
		operations []operation
		want       []string // earlier, later
	}{
		"none":                           {},
		"in order":                       {[]operation{{book, 1, 2, 5, answered}, {book, 3, 4, 6, answered}}, nil},
		"out of order":                   {[]operation{{book, 1, 2, 6, answered}, {book, 3, 4, 5, answered}}, []string{"1 2"}},
		"one entry for both":             {[]operation{{book, 1, 2, 5, answered}, {book, 3, 4, 5, answered}}, []string{"1 2"}},
		"at the same time":               {[]operation{{book, 1, 3, 6, answered}, {book, 2, 4, 5, answered}}, nil},
		"sent as the other was answered": {[]operation{{book, 1, 2, 6, answered}, {book, 2, 3, 5, answered}}, nil},
		"a write after a read":           {[]operation{{read, 1, 2, 5, answered}, {book, 3, 4, 6, answered}}, nil},
		"a write before a read":          {[]operation{{read, 1, 2, 6, answered}, {book, 3, 4, 6, answered}}, []string{"1 2"}},
		"a read of what nothing touched": {[]operation{{book, 1, 2, 6, answered}, {read, 3, 4, 5, answered}}, nil},
		"reads that differ":              {[]operation{{read, 1, 2, 6, answered}, {read, 3, 4, 5, answered}}, nil},
		"without a sequence":             {[]operation{{book, 1, 2, 6, answered}, {book, 3, 4, 0, answered}}, nil},
		"failed":                         {[]operation{{book, 1, 2, 6, failed}, {book, 3, 4, 5, answered}}, nil},
		"unknown":                        {[]operation{{book, 1, 2, 6, answered}, {book, 3, 4, 5, unknown}}, nil},
		"answered late, and first":       {[]operation{{book, 1, 9, 5, answered}, {book, 3, 4, 6, answered}}, nil},
		"the largest shows it": {
			[]operation{{book, 1, 2, 8, answered}, {book, 3, 4, 9, answered}, {book, 5, 6, 3, answered}, {book, 5, 7, 10, answered}, {book, 8, 9, 4, answered}},
			[]string{"2 3", "4 5"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var operations []history.Operation
			for i, o := range test.operations {
				operations = append(operations, history.Operation{
					Number: uint64(i) + 1, Group: i, Call: o.call, Return: o.answer, Outcome: o.outcome,
					Command: dems.Command{Op: o.op}, Result: dems.Result{Sequence: o.sequence},
				})
			}
			var got []string
			for _, d := range CheckSequences(operations) {
				got = append(got, fmt.Sprint(d.Earlier.Number, " ", d.Later.Number))
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// TestSequencesOfACorrectServer shows that nothing is said of what a server may do, and that one changed number is noticed.
func TestSequencesOfACorrectServer(t *testing.T) {
	for seed := range uint64(20) {
		operations := simulate(t, 0, 8, 500, 20, seed)
		if disorders := CheckSequences(operations); len(disorders) > 0 {
			t.Fatalf("seed %d: %v", seed, disorders[0])
		}
		at := slices.IndexFunc(operations, func(o history.Operation) bool {
			return o.Number > 100 && o.Command.Op.Mutates() && o.Outcome == history.Answered
		})
		operations[at].Result.Sequence -= 50
		disorders := CheckSequences(operations)
		if len(disorders) != 1 || disorders[0].Later.Number != operations[at].Number {
			t.Fatalf("seed %d: %v", seed, disorders)
		}
		want := fmt.Sprintf("and the later one %d.", operations[at].Result.Sequence)
		if text := disorders[0].String(); !strings.HasPrefix(text, "operation ") || !strings.HasSuffix(text, want) {
			t.Error(text)
		}
	}
}

func TestDescribe(t *testing.T) {
	s := newSimulation(t, 0, 1, 1)
	seminar, other := s.events[1], s.events[4]
	customer, boss := s.customers[0], dems.UserID{City: seminar.ID.City, Role: dems.Manager, Number: 7}
	for _, test := range []struct {
		command dems.Command
		result  dems.Result
		want    string
	}{
		{
			dems.Command{Op: dems.AddEvent, By: boss, Event: seminar, Capacity: 3},
			dems.Result{Outcome: dems.Updated, Event: dems.EventView{Key: seminar, Capacity: 3, Booked: 1}},
			"OTWM0007 asks addEvent seminar/OTWM010200 with capacity 3 → updated seminar/OTWM010200 1 of 3",
		},
		{
			dems.Command{Op: dems.RemoveEvent, By: boss, Event: seminar},
			dems.Result{
				Outcome: dems.Removed, Event: dems.EventView{Key: seminar, Capacity: 3, Booked: 2},
				Affected: []dems.Affected{{Customer: customer, Outcome: dems.Cancelled}, {Customer: s.customers[1], Outcome: dems.Rebooked, Event: other}},
			},
			"OTWM0007 asks removeEvent seminar/OTWM010200 with bookings=rebook → removed seminar/OTWM010200 2 of 3 " +
				"[MTLC0000 cancelled, OTWC0001 rebooked to seminar/OTWA010100]",
		},
		{
			dems.Command{Op: dems.ListEventAvailability, By: boss, Event: dems.EventKey{Type: dems.Seminar}},
			dems.Result{Type: dems.Seminar, Events: []dems.EventView{{Key: seminar, Capacity: 3}, {Key: other, Capacity: 1, Booked: 1}}},
			"OTWM0007 asks listEventAvailability seminar → [seminar/OTWM010200 0 of 3, seminar/OTWA010100 1 of 1]",
		},
		{
			dems.Command{Op: dems.BookEvent, By: boss, Customer: customer, Event: seminar}, refused(dems.EventFull),
			"OTWM0007 asks bookEvent seminar/OTWM010200 on behalf of MTLC0000 → event_full",
		},
		{
			dems.Command{Op: dems.GetBookingSchedule, By: customer, Customer: customer}, dems.Result{Customer: customer},
			"MTLC0000 asks getBookingSchedule → nothing is there",
		},
		{
			dems.Command{Op: dems.GetBookingSchedule, By: customer, Customer: customer},
			dems.Result{Customer: customer, Bookings: []dems.EventKey{seminar}},
			"MTLC0000 asks getBookingSchedule → [seminar/OTWM010200]",
		},
		{
			dems.Command{Op: dems.CancelEvent, By: customer, Customer: customer, Event: dems.EventKey{ID: seminar.ID}},
			dems.Result{Outcome: dems.Cancelled, Booking: seminar, Customer: customer},
			"MTLC0000 asks cancelEvent OTWM010200 → cancelled seminar/OTWM010200",
		},
		{
			dems.Command{Op: dems.SwapEvent, By: customer, Customer: customer, Event: seminar, OldEvent: other},
			dems.Result{Outcome: dems.Swapped, Booking: seminar, Old: other, Customer: customer},
			"MTLC0000 asks swapEvent seminar/OTWA010100 for seminar/OTWM010200 → swapped seminar/OTWM010200 in place of seminar/OTWA010100",
		},
	} {
		if got := describeCommand(&test.command) + " → " + describeResult(&test.result); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
	o := history.Operation{
		Number: 3, Client: 2, Call: 1500 * time.Microsecond, Return: 2 * time.Second, Outcome: history.Answered,
		Command: dems.Command{Op: dems.GetEvent, By: boss, Event: seminar}, Result: dems.Result{Code: dems.EventNotFound, Sequence: 9},
	}
	prefix := "operation 3 of client 2 (OTWM0007 asks getEvent seminar/OTWM010200), sent at 0.001500 s, "
	if got, want := describe(&o), prefix+"answered at 2.000000 s, sequence 9: event_not_found"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	o.Outcome, o.Error = history.Failed, "503"
	if got, want := describe(&o), prefix+"failed at 2.000000 s: 503"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	o.Outcome = history.Unknown
	if got, want := describe(&o), prefix+"whose outcome is unknown"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
