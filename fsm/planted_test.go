//go:build planted

package fsm

import (
	"testing"

	"dems"
	"dems/internal/planted"
)

// What the planted bugs do. Each is invisible as long as nothing unusual happens.

func TestPlantedLostRecord(t *testing.T) {
	defer planted.Plant(planted.LostRecord)()
	h := newHarness(t)
	h.propose(testSession, 1, add("TORM0001", "seminar", "TORM100519", 5))
	first, _ := h.propose(testSession, 2, book("TORC0001", "seminar", "TORM100519"))
	if first[0].Outcome != dems.Booked || seats(h, "seminar", "TORM100519") != 1 {
		t.Errorf("a batch that is proposed once: %+v", first)
	}
	// A new leader is given it again.
	if again, _ := h.propose(testSession, 2, book("TORC0001", "seminar", "TORM100519")); len(again) != 1 || again[0].Code != dems.AlreadyBooked {
		t.Errorf("proposed again: %+v", again)
	}
	h.batch = 2
	command := book("TORC0002", "seminar", "TORM100519")
	command.Key = "key"
	h.want(dems.OK, command)
	h.want(dems.AlreadyBooked, command) // the client asks again
}

func TestPlantedMonthlyLimit(t *testing.T) {
	defer planted.Plant(planted.MonthlyLimit)()
	h := newHarness(t)
	events := []string{"MTLM010519", "MTLM020519", "MTLM030519", "MTLM040519", "MTLM050519"}
	for _, id := range append(events, "MTLM010619", "TORM010519") {
		h.want(dems.OK, add(id[:3]+"M0001", "seminar", id, 5))
	}
	for _, id := range events[:3] {
		h.want(dems.OK, book("TORC0001", "seminar", id))
	}
	h.want(dems.MonthlyLimit, book("TORC0001", "seminar", events[3])) // which is right
	h.want(dems.OK, book("TORC0001", "seminar", "MTLM010619"))
	h.want(dems.OK, book("TORC0001", "seminar", "TORM010519"))
	h.want(dems.OK, cancel("TORC0001", "seminar", events[0]))
	h.want(dems.MonthlyLimit, book("TORC0001", "seminar", events[3]))
	h.want(dems.OK, book("TORC0002", "seminar", events[0]))
	h.want(dems.OK, book("TORC0002", "seminar", events[1]))
	swap := func(code dems.Code, old, new string) {
		h.want(code, dems.Command{
			Op: dems.SwapEvent, By: user("TORC0002"), Customer: user("TORC0002"), OldEvent: key("seminar", old), Event: key("seminar", new),
		})
	}
	swap(dems.OK, events[1], events[2])
	swap(dems.MonthlyLimit, events[2], events[3]) // although it holds two
}
