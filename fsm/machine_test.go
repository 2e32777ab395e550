package fsm

import (
	"errors"
	"testing"
	"time"

	"dems"
)

// harness drives one machine as a cluster would: one front end with one session, and a clock of its own.
type harness struct {
	t       testing.TB
	machine *Machine
	index   uint64
	batch   uint64
	now     time.Time
	last    Applied
}

const testSession = 7

var testTime = time.Date(2026, 11, 22, 11, 35, 37, 123e6, time.UTC)

func newHarness(t testing.TB) *harness {
	h := &harness{t: t, machine: New(dems.DefaultCities()), now: testTime}
	h.registerFrontEnd("fe1", testSession)
	return h
}

// apply applies an entry and checks what must hold after every entry.
func (h *harness) apply(entry dems.Entry) Applied {
	h.t.Helper()
	h.index++
	applied, err := h.machine.Apply(h.index, dems.AppendEntry(nil, &entry))
	if err != nil {
		h.t.Fatalf("apply %d: %v", h.index, err)
	}
	if applied.Kind != entry.Kind || h.machine.Index() != h.index {
		h.t.Fatalf("applied kind %d at %d, want %d at %d", applied.Kind, h.machine.Index(), entry.Kind, h.index)
	}
	if computed := h.machine.Recompute(); applied.StateDigest != computed || h.machine.Digest() != computed {
		h.t.Fatalf("after entry %d the digest is %s, its records have %s", h.index, applied.StateDigest, computed)
	}
	if err := h.machine.CheckInvariants(); err != nil {
		h.t.Fatalf("after entry %d: %v", h.index, err)
	}
	h.last = applied
	return applied
}

func (h *harness) registerFrontEnd(id string, session uint64) string {
	h.t.Helper()
	return h.apply(dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{
		ID: id, Address: "http://127.0.0.1:8080", Version: "v1", Time: h.now, Session: session,
	}}).Refused
}

// propose applies a batch under a number.
func (h *harness) propose(session, number uint64, commands ...dems.Command) ([]dems.Result, Applied) {
	h.t.Helper()
	applied := h.apply(dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
		Session: session, Number: number, Commands: commands,
	}})
	if applied.ResultDigest != dems.DigestOf(applied.Results) || applied.Session != session || applied.Batch != number {
		h.t.Fatalf("batch %d of session %d: wrong digest or name of the results", number, session)
	}
	results, err := dems.DecodeResults(applied.Results)
	if err != nil {
		h.t.Fatalf("results of batch %d: %v", number, err)
	}
	return results, applied
}

// do applies commands as the next batch, at the present time unless they say another.
func (h *harness) do(commands ...dems.Command) []dems.Result {
	h.t.Helper()
	for i := range commands {
		if commands[i].Time.IsZero() {
			commands[i].Time = h.now
		}
	}
	h.batch++
	results, _ := h.propose(testSession, h.batch, commands...)
	if len(results) != len(commands) {
		h.t.Fatalf("%d results of %d commands", len(results), len(commands))
	}
	return results
}

// want applies one command and checks its code.
func (h *harness) want(code dems.Code, command dems.Command) dems.Result {
	h.t.Helper()
	result := h.do(command)[0]
	if result.Code != code {
		h.t.Fatalf("%s by %s: %s, want %s", command.Op, command.By, result.Code, code)
	}
	return result
}

// query asks and checks the code.
func (h *harness) query(code dems.Code, command dems.Command) (dems.Result, uint64) {
	h.t.Helper()
	answer := h.machine.Query(&dems.Query{Kind: dems.OperationQuery, Command: command})
	results, err := dems.DecodeResults(answer.Result)
	if err != nil || len(results) != 1 {
		h.t.Fatalf("%s: %d results, %v", command.Op, len(results), err)
	}
	if results[0].Code != code {
		h.t.Fatalf("%s by %s: %s, want %s", command.Op, command.By, results[0].Code, code)
	}
	return results[0], answer.Version
}

func user(text string) dems.UserID {
	id, ok := dems.ParseUserID(text)
	if !ok {
		panic("no user ID: " + text)
	}
	return id
}

// key parses type/ID.
func key(eventType, id string) dems.EventKey {
	parsedType, ok := dems.ParseEventType(eventType)
	parsedID, valid := dems.ParseEventID(id)
	if !ok || !valid {
		panic("no event: " + eventType + "/" + id)
	}
	return dems.EventKey{Type: parsedType, ID: parsedID}
}

func add(by, eventType, id string, capacity uint32) dems.Command {
	return dems.Command{Op: dems.AddEvent, By: user(by), Event: key(eventType, id), Capacity: capacity}
}

func remove(by, eventType, id string, policy dems.BookingPolicy) dems.Command {
	return dems.Command{Op: dems.RemoveEvent, By: user(by), Event: key(eventType, id), Bookings: policy}
}

func book(customer, eventType, id string) dems.Command {
	return dems.Command{Op: dems.BookEvent, By: user(customer), Customer: user(customer), Event: key(eventType, id)}
}

func cancel(customer, eventType, id string) dems.Command {
	return dems.Command{Op: dems.CancelEvent, By: user(customer), Customer: user(customer), Event: key(eventType, id)}
}

func withKey(command dems.Command, idempotencyKey string) dems.Command {
	command.Key = idempotencyKey
	return command
}

func TestApplyRefusesWhatIsOutOfOrder(t *testing.T) {
	h := newHarness(t)
	h.want(dems.OK, add("TORM0001", "seminar", "TORM100519", 2))
	before := h.machine.Digest()
	entry := dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
		Session: testSession, Number: 9, Commands: []dems.Command{book("TORC0001", "seminar", "TORM100519")},
	}})
	for _, index := range []uint64{0, 1, h.index} {
		if _, err := h.machine.Apply(index, entry); !errors.Is(err, ErrOutOfOrder) {
			t.Errorf("index %d after %d: %v", index, h.index, err)
		}
	}
	if h.machine.Digest() != before || h.machine.Index() != h.index {
		t.Error("a refused entry changed the state")
	}
	if _, err := h.machine.Apply(h.index+100, entry); err != nil {
		t.Errorf("a gap between indexes is no error: %v", err)
	}
}

func TestApplyRefusesWhatCannotBeDecoded(t *testing.T) {
	h := newHarness(t)
	entry := dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
		Session: testSession, Number: 1, Commands: []dems.Command{add("TORM0001", "seminar", "TORM100519", 2)},
	}})
	before := h.machine.Digest()
	damaged := append([]byte(nil), entry...)
	damaged[7] ^= 1
	for name, data := range map[string][]byte{
		"empty": nil, "truncated": entry[:len(entry)-1], "longer": append(append([]byte(nil), entry...), 0),
		"damaged": damaged, "too large": make([]byte, dems.MaxEntryBytes+1),
	} {
		if _, err := h.machine.Apply(h.index+1, data); !errors.Is(err, dems.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h.machine.Digest() != before {
		t.Error("an undecodable entry changed the state")
	}
}

// TestBrokenInvariantStopsTheMachine damages memory in ways that rules notice.
func TestBrokenInvariantStopsTheMachine(t *testing.T) {
	damages := map[string]func(m *Machine){
		"event without its booking": func(m *Machine) {
			_, e := m.find(key("seminar", "TORM100519"))
			e.bookings.Delete(1)
		},
		"event gone": func(m *Machine) {
			state := m.state(user("TORC0001").City)
			state.events[dems.Seminar].Delete(key("seminar", "TORM100519").Order())
		},
		"somebody else's booking": func(m *Machine) {
			_, e := m.find(key("seminar", "TORM100519"))
			e.bookings.Set(1, user("TORC0002"))
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.want(dems.OK, add("TORM0001", "seminar", "TORM100519", 2))
			h.want(dems.OK, book("TORC0001", "seminar", "TORM100519"))
			damage(h.machine)
			if err := h.machine.CheckInvariants(); !errors.Is(err, ErrInvariant) {
				t.Errorf("CheckInvariants: %v", err)
			}
			if h.machine.Recompute() == h.machine.Digest() {
				t.Error("the damage does not show in the recomputed digest")
			}
			entry := dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
				Session: testSession, Number: 9, Commands: []dems.Command{cancel("TORC0001", "seminar", "TORM100519")},
			}})
			for range 2 { // and it stays stopped
				h.index++
				if _, err := h.machine.Apply(h.index, entry); !errors.Is(err, ErrInvariant) {
					t.Errorf("Apply: %v", err)
				}
			}
		})
	}
}

func TestUnknownCityHasNothing(t *testing.T) {
	m := New(dems.DefaultCities())
	nowhere := dems.City{'X', 'Y', 'Z'}
	if records, chain := m.CityLog(nowhere); records != 0 || chain != (dems.Digest{}) {
		t.Error("a log of no city")
	}
	if m.CityDigest(nowhere) != (dems.Digest{}) {
		t.Error("a digest of no city")
	}
}
