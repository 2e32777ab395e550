package fsm

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"dems"
)

// damages are ways in which memory can contradict itself, each applied to smallMachine.
var damages = map[string]func(m *Machine){
	"capacity below bookings": func(m *Machine) { _, e := m.find(key("seminar", "TORM100519")); e.capacity = 1 },
	"no capacity":             func(m *Machine) { _, e := m.find(key("seminar", "TORA100519")); e.capacity = 0 },
	"capacity too large":      func(m *Machine) { _, e := m.find(key("seminar", "TORA100519")); e.capacity = dems.MaxCapacity + 1 },
	"event without a version": func(m *Machine) { _, e := m.find(key("seminar", "TORM100519")); e.version = 0 },
	"event of the future":     func(m *Machine) { _, e := m.find(key("seminar", "TORM100519")); e.version = m.index + 1 },
	"event newer than type":   func(m *Machine) { m.typeVersions[dems.TradeShow] = 1 },
	"type of the future":      func(m *Machine) { m.typeVersions[dems.TradeShow] = m.index + 1 },
	"membership of the future": func(m *Machine) {
		m.states[0].membership[dems.Conference] = m.index + 1
	},
	"event in the wrong place": func(m *Machine) {
		state, e := m.find(key("seminar", "TORM100519"))
		state.events[dems.Seminar].Set(key("seminar", "TORE100519").Order(), e)
	},
	"booking of nobody": func(m *Machine) {
		_, e := m.find(key("seminar", "TORM100519"))
		e.bookings.Set(1, user("TORC4444"))
	},
	"booking of the future": func(m *Machine) { m.lastBooking = 1 },
	"booking in the index alone": func(m *Machine) {
		m.customer(user("TORC0001")).bookings.Set(key("tradeshow", "TORM100519").Order(), 3)
	},
	"another number in the index": func(m *Machine) {
		m.customer(user("TORC0001")).bookings.Set(key("seminar", "TORM100519").Order(), 3)
	},
	"customer without a version": func(m *Machine) { m.customer(user("TORC0001")).version = 0 },
	"customer of the future":     func(m *Machine) { m.customer(user("TORC0001")).version = m.index + 1 },
	"four foreign bookings in a month": func(m *Machine) {
		for _, id := range []string{"TORM010519", "TORA010519"} {
			c := m.customer(user("MTLC0001"))
			state := m.state(user("TORC0001").City)
			m.book(state, m.addEvent(state, key("seminar", id), 1), user("MTLC0001"), c)
		}
	},
	"sessions out of order": func(m *Machine) { slices.Reverse(m.sessions.open) },
	"session of the future": func(m *Machine) { m.sessions.open[0].used = m.index + 1 },
	"batch out of its window": func(m *Machine) {
		s := m.sessions.find(testSession)
		s.highest = 100
	},
	"results not counted": func(m *Machine) { m.sessions.storedBytes++ },
	"keys not counted":    func(m *Machine) { m.keys.count++ },
	"key sizes not counted": func(m *Machine) {
		m.keys.bytes--
	},
	"key of the future": func(m *Machine) { m.clock = 1 },
	"key not indexed": func(m *Machine) {
		name := m.keys.oldest().name
		m.keys.index.remove(m.keys.findSlot(&name))
	},
	"too many keys": func(m *Machine) { m.limits.keys = 1 },
}

func TestCheckInvariantsFindsEveryDamage(t *testing.T) {
	if err := smallMachine(t).CheckInvariants(); err != nil {
		t.Fatal(err)
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			m := smallMachine(t)
			damage(m)
			if err := m.CheckInvariants(); !errors.Is(err, ErrInvariant) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestRestoreChecksInvariants writes snapshots of damaged machines whose digest is right.
func TestRestoreChecksInvariants(t *testing.T) {
	derived := []string{ // not in a snapshot: restoring makes them right
		"booking in the index alone", "another number in the index", "results not counted", "keys not counted",
		"key sizes not counted", "key not indexed", "too many keys", "event in the wrong place",
	}
	for name, damage := range damages {
		if slices.Contains(derived, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m := smallMachine(t)
			damage(m)
			m.resum()
			var out bytes.Buffer
			if _, err := m.Snapshot().WriteTo(&out); err != nil {
				t.Fatal(err)
			}
			if _, err := Restore(&out, m.Cities()); !errors.Is(err, ErrSnapshot) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestDigestSeesEveryDamage changes one fact at a time without a command.
func TestDigestSeesEveryDamage(t *testing.T) {
	unseen := []string{ // not facts of the state, or the same facts in another order
		"results not counted", "keys not counted", "key sizes not counted", "key not indexed", "too many keys",
		"sessions out of order", "event in the wrong place",
		"four foreign bookings in a month", // made by commands that keep the digest
	}
	seen := map[string]func(*Machine){
		"chain of a city":  func(m *Machine) { m.states[2].chain[15] ^= 1 },
		"city log length":  func(m *Machine) { m.states[2].records++ },
		"last booking":     func(m *Machine) { m.lastBooking++ },
		"log time":         func(m *Machine) { m.clock++ },
		"registry version": func(m *Machine) { m.registry.version-- },
		"node":             func(m *Machine) { m.registry.nodes[0].Address = "elsewhere" },
		"front end":        func(m *Machine) { m.registry.frontEnds[0].Version = "v2" },
		"index":            func(m *Machine) { m.index++ },
		"stored result": func(m *Machine) {
			b := m.sessions.find(testSession).batch(1)
			b.results = bytes.Clone(b.results)
			b.results[1] ^= 1
		},
		"key": func(m *Machine) { m.keys.chunks[0][20] ^= 1 },
		"bookings exchanged": func(m *Machine) {
			_, e := m.find(key("seminar", "TORM100519"))
			e.bookings.Set(1, user("MTLC0001"))
			e.bookings.Set(2, user("TORC0001"))
		},
	}
	for name, damage := range damages {
		if !slices.Contains(unseen, name) {
			seen[name] = damage
		}
	}
	for name, damage := range seen {
		m := smallMachine(t)
		before := m.Digest()
		damage(m)
		if m.Recompute() == before {
			t.Errorf("%s: the recomputed digest is the same", name)
		}
	}
}

// TestCityDigestsTellWhichCity changes one city and expects its digest alone to change.
func TestCityDigestsTellWhichCity(t *testing.T) {
	h := newHarness(t)
	digests := func() (all []dems.Digest) {
		for _, named := range h.machine.Cities() {
			all = append(all, h.machine.CityDigest(named.City))
		}
		return all
	}
	before := digests()
	h.want(dems.OK, add("MTLM0001", "seminar", "MTLM100519", 1))
	after := digests()
	if before[0] == after[0] || before[1] != after[1] || before[2] != after[2] {
		t.Errorf("before %v, after %v", before, after)
	}
	if before[0] == before[1] || before[1] == before[2] {
		t.Error("empty cities have the same digest")
	}
}

// TestRestoreRefusesAnotherOrder exchanges the records of two events, which no digest would show.
func TestRestoreRefusesAnotherOrder(t *testing.T) {
	h := newHarness(t)
	h.do(add("TORM0001", "seminar", "TORM100519", 1), add("TORM0001", "seminar", "TORA100519", 1))
	data := snapshotBytes(t, h.machine.Snapshot())
	first, second := dems.AppendEvent(nil, key("seminar", "TORM100519")), dems.AppendEvent(nil, key("seminar", "TORA100519"))
	at, other := bytes.Index(data, first), bytes.Index(data, second)
	copy(data[at:], second)
	copy(data[other:], first)
	if !repair(data) {
		t.Fatal("no snapshot any more")
	}
	if _, err := Restore(bytes.NewReader(data), h.machine.Cities()); !errors.Is(err, ErrSnapshot) {
		t.Errorf("%v", err)
	}
}
