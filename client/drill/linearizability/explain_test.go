package linearizability

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dems"
	"dems/client/drill/history"
)

// TestExplanation shows what people are told, in all its forms.
func TestExplanation(t *testing.T) {
	event := dems.EventKey{Type: dems.Seminar, ID: dems.EventID{
		City: cities[0], Slot: dems.Morning, Date: dems.Date{Year: 26, Month: 3, Day: 1},
	}}
	first := dems.UserID{City: cities[0], Role: dems.Customer, Number: 1}
	second := dems.UserID{City: cities[0], Role: dems.Customer, Number: 2}
	var operations []history.Operation
	// done records an operation of client 0 that was sent and answered so many seconds after the history began.
	done := func(sent, answered time.Duration, command dems.Command, result dems.Result) {
		operations = append(operations, history.Operation{
			Number: uint64(len(operations)) + 1, Group: 4, Call: sent * time.Second, Return: answered * time.Second,
			Outcome: history.Answered, Command: command, Result: result,
		})
	}
	add := func(capacity uint32) {
		done(1, 2, dems.Command{Op: dems.AddEvent, By: manager(event), Event: event, Capacity: capacity},
			dems.Result{Outcome: dems.Created, Event: dems.EventView{Key: event, Capacity: capacity}})
	}
	book := func(sent, answered time.Duration, customer dems.UserID, code dems.Code) {
		command := dems.Command{Op: dems.BookEvent, By: customer, Customer: customer, Event: event}
		result := booked(command)
		if code != dems.OK {
			result = refused(code)
		}
		done(sent, answered, command, result)
	}
	read := func(sent, answered time.Duration, count, capacity uint32) {
		done(sent, answered, dems.Command{Op: dems.GetEvent, By: manager(event), Event: event},
			dems.Result{Event: dems.EventView{Key: event, Capacity: capacity, Booked: count}})
	}
	for name, test := range map[string]struct {
		tell func()
		want []string
	}{
		"one answer is right": {
			func() { add(2); book(3, 4, first, dems.OK); read(5, 6, 0, 2); book(7, 8, second, dems.OK) },
			[]string{
				"No order explains the first 3 of the 4 answers of group 4.",
				"Those before are explained, and this one is not: operation 3 of client 0 (MTLM0003 asks getEvent seminar/MTLM010326), " +
					"sent at 5.000000 s, answered at 6.000000 s: seminar/MTLM010326 0 of 2.",
				"In an order that explains those before, there was when it was sent: seminar/MTLM010326 1 of 2 (MTLC0001).",
				"There the rules answer: seminar/MTLM010326 1 of 2.",
			},
		},
		"two answers are right": {
			func() { add(2); book(3, 6, first, dems.OK); read(4, 7, 2, 2) },
			[]string{
				"No order explains the first 3 of the 3 answers of group 4.",
				"Those before are explained, and this one is not: operation 3 of client 0 (MTLM0003 asks getEvent seminar/MTLM010326), " +
					"sent at 4.000000 s, answered at 7.000000 s: seminar/MTLM010326 2 of 2.",
				"In an order that explains those before, there was when it was sent: seminar/MTLM010326 0 of 2.",
				"There the rules answer: seminar/MTLM010326 0 of 2; or, depending on the place: seminar/MTLM010326 1 of 2.",
			},
		},
		"the answer would make another one wrong": {
			func() { add(1); book(3, 6, first, dems.OK); book(4, 7, second, dems.OK) },
			[]string{
				"No order explains the first 3 of the 3 answers of group 4.",
				"Those before are explained, and this one is not: operation 3 of client 0 (MTLC0002 asks bookEvent seminar/MTLM010326), " +
					"sent at 4.000000 s, answered at 7.000000 s: booked seminar/MTLM010326.",
				"In an order that explains those before, there was when it was sent: seminar/MTLM010326 0 of 1.",
				"There the rules answer: event_full.",
				"Where it would fit in that order, this does not: operation 2 of client 0 (MTLC0001 asks bookEvent seminar/MTLM010326), " +
					"sent at 3.000000 s, answered at 6.000000 s: booked seminar/MTLM010326.",
			},
		},
		"others saw that it was done": {
			func() { add(1); book(3, 7, first, dems.EventFull); read(4, 6, 1, 1) },
			[]string{
				"No order explains the first 3 of the 3 answers of group 4.",
				"Those before are explained, and this one is not: operation 2 of client 0 (MTLC0001 asks bookEvent seminar/MTLM010326), " +
					"sent at 3.000000 s, answered at 7.000000 s: event_full.",
				"Others saw what it did, and where they did the rules answer: booked seminar/MTLM010326.",
			},
		},
		"something else is unknown": {
			func() {
				add(2)
				book(3, 9, second, dems.EventFull)
				read(4, 5, 2, 2)
				read(6, 7, 2, 2)
				read(8, 8, 2, 2)
			},
			[]string{
				"No order explains the first 2 of the 5 answers of group 4.",
				"Those before are explained, and this one is not: operation 3 of client 0 (MTLM0003 asks getEvent seminar/MTLM010326), " +
					"sent at 4.000000 s, answered at 5.000000 s: seminar/MTLM010326 2 of 2.",
				"In an order that explains those before, there was when it was sent: seminar/MTLM010326 0 of 2.",
				"There the rules answer: seminar/MTLM010326 0 of 2.",
				"Then the outcome of 1 more was unknown; done or undone, they do not explain it.",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			operations = nil
			test.tell()
			result := Check(t.Context(), operations, Options{})
			if len(result.Violations) != 1 {
				t.Fatalf("%d violations", len(result.Violations))
			}
			v := result.Violations[0]
			if difference := cmp.Diff(test.want, v.Explanation); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
			for _, o := range v.Operations {
				if o.Call > v.Unplaced.Return {
					t.Errorf("%s has nothing to do with it", describe(&o))
				}
			}
		})
	}
}
