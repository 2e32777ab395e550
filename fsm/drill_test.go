package fsm

import (
	"bytes"
	"testing"
	"time"

	"dems"
)

// TestCorruptIsFoundByOthersAlone damages a machine again and again: nothing on it tells, every digest is a new one, and a
// snapshot that was taken before stays as it was.
func TestCorruptIsFoundByOthersAlone(t *testing.T) {
	for _, m := range []*Machine{smallMachine(t), New(dems.DefaultCities()), New(nil)} {
		seen := map[dems.Digest]uint64{m.Digest(): 0}
		before := m.Snapshot()
		written := snapshotBytes(t, before)
		for seed := uint64(1); seed < 300; seed++ {
			did := m.Corrupt(seed * 0x9e3779b97f4a7c15)
			if other, found := seen[m.Digest()]; found {
				t.Fatalf("%q, and the digest is that after %d of %d times", did, other, seed)
			}
			seen[m.Digest()] = seed
			if m.Recompute() != m.Digest() {
				t.Fatalf("%q, and the digest is not that of the records", did)
			}
			if err := m.CheckInvariants(); err != nil {
				t.Fatalf("%q: %v", did, err)
			}
		}
		if restored := restoredFrom(t, m); restored.Digest() != m.Digest() {
			t.Error("a snapshot of it is another state")
		}
		if !bytes.Equal(snapshotBytes(t, before), written) || before.Recompute() != before.Digest() {
			t.Error("a snapshot from before has changed")
		}
	}
}

// TestCorruptDoesWhatItSays covers each way, and shows that what follows does not make it right again.
func TestCorruptDoesWhatItSays(t *testing.T) {
	for _, test := range []struct {
		seed   uint64
		empty  bool
		did    string
		booked int
	}{
		{seed: 0, did: "the booking of seminar/TORM100519 by MTLC0001 is lost", booked: 0},
		{seed: 2, did: "seminar/TORM100519 has a capacity of 3 instead of 2", booked: 1},
		{seed: 2, empty: true, did: "the last booking has number 2 instead of 0", booked: 1},
	} {
		wrong, right := newHarness(t), newHarness(t)
		begin := func(h *harness) {
			h.do(add("TORM0001", "seminar", "TORM100519", 2), book("MTLC0001", "seminar", "TORM100519"))
		}
		if !test.empty {
			begin(wrong)
			begin(right)
		}
		if did := wrong.machine.Corrupt(test.seed); did != test.did {
			t.Errorf("seed %d: %q", test.seed, did)
		}
		if test.empty {
			begin(wrong)
			begin(right)
		}
		for _, h := range []*harness{wrong, right} {
			h.now = h.now.Add(time.Second)
			h.do(book("TORC0001", "seminar", "TORM100519"))
		}
		schedule := dems.Command{Op: dems.GetBookingSchedule, By: user("MTLC0001"), Customer: user("MTLC0001")}
		if result, _ := wrong.query(dems.OK, schedule); len(result.Bookings) != test.booked {
			t.Errorf("%q, and the customer has %v", test.did, result.Bookings)
		}
		if wrong.machine.Digest() == right.machine.Digest() {
			t.Errorf("%q: the next command made it right", test.did)
		}
	}
}

// TestCorruptIsFoundInAnswers shows that a lost booking shows to clients under the version that correct nodes have, too.
func TestCorruptIsFoundInAnswers(t *testing.T) {
	h := newHarness(t)
	h.do(add("TORM0001", "seminar", "TORM100519", 2), book("MTLC0001", "seminar", "TORM100519"))
	ask := dems.Query{Kind: dems.OperationQuery, Command: dems.Command{Op: dems.GetEvent, By: user("TORM0001"), Event: key("seminar", "TORM100519")}}
	before := h.machine.Query(&ask)
	h.machine.Corrupt(0)
	after := h.machine.Query(&ask)
	if after.Version != before.Version || bytes.Equal(after.Result, before.Result) {
		t.Errorf("version %d and %d, %v and %v", before.Version, after.Version, before.Result, after.Result)
	}
}

// TestResumAdoptsTheRecords changes memory without a command and expects the digest to say so from then on.
func TestResumAdoptsTheRecords(t *testing.T) {
	m := smallMachine(t)
	before := m.Digest()
	if m.Resum() || m.Digest() != before {
		t.Error("it changed the digest of a machine that nothing happened to")
	}
	for name, change := range map[string]func(m *Machine){
		"capacity": func(m *Machine) { _, e := m.find(key("seminar", "TORM100519")); e.capacity++ },
		"customer": func(m *Machine) {
			m.customer(user("TORC0001")).bookings.Set(key("seminar", "TORM100519").Order(), 3)
		},
		"city log":  func(m *Machine) { m.states[2].records++ },
		"node":      func(m *Machine) { m.registry.nodes[0].Address = "elsewhere" },
		"condition": func(m *Machine) { m.cluster.standings[0].Since-- },
		"result of a batch": func(m *Machine) {
			b := m.sessions.find(testSession).batch(1)
			b.results = bytes.Clone(b.results)
			b.results[1] ^= 1
		},
	} {
		m := smallMachine(t)
		before := m.Digest()
		change(m)
		if !m.Resum() || m.Digest() == before || m.Digest() != m.Recompute() {
			t.Errorf("%s: digest %s after %s, its records have %s", name, m.Digest(), before, m.Recompute())
		}
		if m.Resum() {
			t.Errorf("%s: twice", name)
		}
		index := m.Index()
		for number := uint64(3); number < 20; number++ { // until every batch from before is forgotten
			index++
			mustApply(t, m, index, dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
				Session: testSession, Number: number, Commands: []dems.Command{add("TORM0001", "tradeshow", "TORM110519", uint32(number))},
			}}))
		}
		if m.Digest() != m.Recompute() {
			t.Errorf("%s: later entries keep another digest than that of the records", name)
		}
	}
}
