package fsm

import (
	"bytes"
	"fmt"
	"testing"

	"dems"
)

// zeroResults is what a batch without an effect gives.
var zeroResults = dems.AppendResults(nil, nil)

func seats(h *harness, eventType, id string) uint32 {
	h.t.Helper()
	result, _ := h.query(dems.OK, dems.Command{Op: dems.GetEvent, By: user("TORM0001"), Event: key(eventType, id)})
	return result.Event.Booked
}

func TestBatchProposedAgainHasNoEffect(t *testing.T) {
	h := newHarness(t)
	h.propose(testSession, 1, add("TORM0001", "seminar", "TORM100519", 5))
	_, first := h.propose(testSession, 2, book("TORC0001", "seminar", "TORM100519"), book("TORC0002", "seminar", "TORM100519"))
	records, chain := h.machine.CityLog(user("TORC0001").City)
	for range 3 {
		_, again := h.propose(testSession, 2, book("TORC0001", "seminar", "TORM100519"), book("TORC0002", "seminar", "TORM100519"))
		if !bytes.Equal(again.Results, first.Results) || again.ResultDigest != first.ResultDigest {
			t.Error("other results")
		}
		if len(again.Records) != 0 {
			t.Errorf("%d records", len(again.Records))
		}
	}
	if count, other := h.machine.CityLog(user("TORC0001").City); count != records || other != chain {
		t.Error("the city log went on")
	}
	if booked := seats(h, "seminar", "TORM100519"); booked != 2 {
		t.Errorf("%d seats booked", booked)
	}
	index, results, digest, ok := h.machine.Batch(testSession, 2)
	if !ok || index != 3 || !bytes.Equal(results, first.Results) || digest != first.ResultDigest {
		t.Errorf("Batch gives index %d, %v", index, ok)
	}
}

// TestBatchesOutOfOrder applies every order in which a window of batches can come, each batch twice.
func TestBatchesOutOfOrder(t *testing.T) {
	h := newHarness(t)
	h.propose(testSession, 1, add("TORM0001", "seminar", "TORM100519", 100))
	applied := map[uint64][]byte{}
	for _, number := range []uint64{5, 3, 8, 4, 3, 2, 9, 6, 5, 7, 9, 2} {
		_, a := h.propose(testSession, number, book(fmt.Sprintf("TORC%04d", number), "seminar", "TORM100519"))
		if before, found := applied[number]; found && !bytes.Equal(before, a.Results) {
			t.Errorf("batch %d proposed again gives other results", number)
		}
		applied[number] = a.Results
	}
	if booked := seats(h, "seminar", "TORM100519"); booked != 8 {
		t.Errorf("%d seats booked by 8 batches", booked)
	}
}

func TestBatchTooOld(t *testing.T) {
	h := newHarness(t)
	h.propose(testSession, 1, add("TORM0001", "seminar", "TORM100519", 100))
	h.propose(testSession, 3, book("TORC0003", "seminar", "TORM100519"))
	h.propose(testSession, 10, book("TORC0010", "seminar", "TORM100519"))
	for _, number := range []uint64{1, 2} { // applied and forgotten; never seen, but not in the window any more
		_, a := h.propose(testSession, number, book("TORC0099", "seminar", "TORM100519"))
		if !bytes.Equal(a.Results, zeroResults) || len(a.Records) != 0 {
			t.Errorf("batch %d: results %v, %d records", number, a.Results, len(a.Records))
		}
		if _, _, _, ok := h.machine.Batch(testSession, number); ok {
			t.Errorf("batch %d is remembered", number)
		}
	}
	if _, a := h.propose(testSession, 3, book("TORC0003", "seminar", "TORM100519")); bytes.Equal(a.Results, zeroResults) {
		t.Error("the oldest batch of the window is forgotten")
	}
	if results, _ := h.propose(testSession, 4, book("TORC0004", "seminar", "TORM100519")); len(results) != 1 || results[0].Code != dems.OK {
		t.Error("a batch of the window that was late is not applied")
	}
	if booked := seats(h, "seminar", "TORM100519"); booked != 3 {
		t.Errorf("%d seats booked", booked)
	}
}

func TestLargestBatchNumber(t *testing.T) {
	h := newHarness(t)
	last := ^uint64(0)
	for _, number := range []uint64{last, last - 7, last} {
		if results, _ := h.propose(testSession, number, add("TORM0001", "seminar", "TORM100519", 1)); len(results) != 1 {
			t.Errorf("batch %d has no result", number)
		}
	}
	if results, _ := h.propose(testSession, last-8, add("TORM0001", "seminar", "TORM100519", 1)); len(results) != 0 {
		t.Error("a batch too old has a result")
	}
	if restored := restoredFrom(t, h.machine); restored.Digest() != h.machine.Digest() {
		t.Error("restored differently")
	}
}

func TestUnknownSession(t *testing.T) {
	h := newHarness(t)
	_, a := h.propose(testSession+1, 1, add("TORM0001", "seminar", "TORM100519", 1))
	if !bytes.Equal(a.Results, zeroResults) || len(a.Records) != 0 {
		t.Errorf("results %v, %d records", a.Results, len(a.Records))
	}
	h.query(dems.EventNotFound, dems.Command{Op: dems.GetEvent, By: user("TORM0001"), Event: key("seminar", "TORM100519")})
	if _, _, _, ok := h.machine.Batch(testSession+1, 1); ok {
		t.Error("a batch of an unknown session is remembered")
	}
}

func TestSessionOpenedAgainKeepsItsBatches(t *testing.T) {
	h := newHarness(t)
	_, first := h.propose(testSession, 1, add("TORM0001", "seminar", "TORM100519", 1))
	if refused := h.registerFrontEnd("fe1", testSession); refused != "" {
		t.Fatal(refused)
	}
	if _, again := h.propose(testSession, 1, add("TORM0001", "seminar", "TORM100519", 1)); !bytes.Equal(again.Results, first.Results) {
		t.Error("the batch was applied again")
	}
	if refused := h.registerFrontEnd("fe2", testSession); refused == "" {
		t.Error("a session was given to another front end")
	}
}

func TestOldSessionOfFrontEndStaysOpen(t *testing.T) {
	h := newHarness(t)
	h.registerFrontEnd("fe1", testSession+1)
	if results, _ := h.propose(testSession, 1, add("TORM0001", "seminar", "TORM100519", 1)); len(results) != 1 {
		t.Error("an entry of the old session that was on its way is lost")
	}
}

func TestSessionUnusedForLongestIsForgotten(t *testing.T) {
	h := newHarness(t)
	h.machine.limits.sessions = 3
	h.registerFrontEnd("fe2", 20)
	h.registerFrontEnd("fe3", 30)
	h.propose(testSession, 1, add("TORM0001", "seminar", "TORM100519", 1)) // fe2's is the one unused for longest now
	h.propose(20, 1, add("TORM0001", "seminar", "TORA100519", 1))
	h.propose(testSession, 2, add("TORM0001", "seminar", "TORE100519", 1)) // and now fe3's
	h.registerFrontEnd("fe4", 10)
	for session, open := range map[uint64]bool{testSession: true, 20: true, 30: false, 10: true} {
		results, _ := h.propose(session, 9, add("TORM0001", "conference", "TORM100519", 1))
		if (len(results) == 1) != open {
			t.Errorf("session %d has %d results, open is %t", session, len(results), open)
		}
	}
	h.registerFrontEnd("fe3", 30) // it comes back, and what it did is forgotten
	if results, _ := h.propose(30, 1, add("TORM0001", "seminar", "TORM110519", 1)); len(results) != 1 {
		t.Error("a session cannot be opened again")
	}
}

// TestStoredResultsAreBounded shows that large results give way, and that their batches are still not applied again.
func TestStoredResultsAreBounded(t *testing.T) {
	h := newHarness(t)
	h.machine.limits.storedResultBytes = 100
	h.registerFrontEnd("fe2", 20)
	list := dems.Command{Op: dems.ListEventAvailability, By: user("TORM0001"), Event: dems.EventKey{Type: dems.Seminar}}
	h.propose(testSession, 1, add("TORM0001", "seminar", "TORM100519", 5), add("TORM0001", "seminar", "TORA100519", 5))
	h.propose(20, 1, list, list, list) // 3 * 2 events of more than 10 bytes
	if h.machine.sessions.storedBytes > 100 {
		t.Errorf("%d bytes are stored", h.machine.sessions.storedBytes)
	}
	if _, _, _, ok := h.machine.Batch(testSession, 1); ok {
		t.Error("the older results are still there")
	}
	if _, _, _, ok := h.machine.Batch(20, 1); !ok {
		t.Error("the newer results are gone")
	}
	if results, _ := h.propose(testSession, 1, remove("TORM0001", "seminar", "TORM100519", dems.CancelBookings)); len(results) != 0 {
		t.Error("a batch was applied again after its results gave way")
	}
	if booked := seats(h, "seminar", "TORM100519"); booked != 0 {
		t.Error("the event is gone")
	}
	if restored := restoredFrom(t, h.machine); restored.Digest() != h.machine.Digest() {
		t.Error("restored differently")
	}
	h.propose(20, 2, list, list, list, list, list, list) // larger than everything allowed
	if h.machine.sessions.storedBytes != 0 {
		t.Errorf("%d bytes are stored", h.machine.sessions.storedBytes)
	}
}

// TestResultsOfOneBatchAreBounded shows that what is refused for its size was not executed.
func TestResultsOfOneBatchAreBounded(t *testing.T) {
	h := newHarness(t)
	h.machine.limits.resultBytes = 30 // one result has 15
	results := h.do(
		add("TORM0001", "seminar", "TORM100519", 5), add("TORM0001", "seminar", "TORA100519", 5),
		withKey(add("TORM0001", "seminar", "TORE100519", 5), "k"),
	)
	if results[1].Code != dems.OK || results[2].Code != dems.Unavailable || results[2].Sequence != h.index {
		t.Errorf("%+v", results)
	}
	if len(h.last.Records) != 2 {
		t.Errorf("%d records", len(h.last.Records))
	}
	if result := h.want(dems.OK, withKey(add("TORM0001", "seminar", "TORE100519", 5), "k")); result.Replayed {
		t.Error("it was stored under its key")
	}
}
