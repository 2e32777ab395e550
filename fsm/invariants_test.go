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
	"too many keys":        func(m *Machine) { m.limits.keys = 1 },
	"members out of order": func(m *Machine) { slices.Reverse(m.cluster.members) },
	"member without a standing": func(m *Machine) {
		m.cluster.members = append(m.cluster.members, dems.Member{ID: "n9", Incarnation: 1, Suffrage: dems.Voter})
	},
	"member of incarnation 0":   func(m *Machine) { m.cluster.members[3].Incarnation = 0 },
	"member with an address":    func(m *Machine) { m.cluster.members[3].Address = "127.0.0.1:7001" },
	"standings out of order":    func(m *Machine) { slices.Reverse(m.cluster.standings) },
	"standing of the future":    func(m *Machine) { m.cluster.standings[0].Since = m.index + 1 },
	"standing since never":      func(m *Machine) { m.cluster.standings[0].Since = 0 },
	"standing without a number": func(m *Machine) { m.cluster.standings[1].Incarnation = 0 },
	"unknown condition":         func(m *Machine) { m.cluster.standings[1].Condition = dems.Quarantined + 1 },
	"correct and elsewhere":     func(m *Machine) { m.cluster.standings[3].Incarnation++ },
	"convicted and no member":   func(m *Machine) { m.cluster.members = m.cluster.members[1:] },
	"rejoining voter":           func(m *Machine) { m.cluster.members[1].Suffrage = dems.Voter },
	"expelled from the first":   func(m *Machine) { s := &m.cluster.standings[3]; s.Condition = dems.Expelled },
	"by hand and correct":       func(m *Machine) { m.cluster.standings[2].ByHand = true },
	"removed in the future":     func(m *Machine) { m.cluster.standings[1].removals[2] = m.logTime() + 1 },
	"removed out of order":      func(m *Machine) { r := &m.cluster.standings[1].removals; r[0] = r[2] },
	"verdict of no voter":       func(m *Machine) { m.cluster.verdicts[0].by = "n2" },
	"verdict on no voter":       func(m *Machine) { m.cluster.verdicts[0].incarnation++ },
	"verdict on oneself":        func(m *Machine) { m.cluster.verdicts[0].by = "n3" },
	"verdict of the future":     func(m *Machine) { m.cluster.verdicts[0].time = m.logTime() + 1 },
	"verdict on a convicted":    func(m *Machine) { v := &m.cluster.verdicts[0]; v.node, v.by = "n1", "n3" },
	"verdicts out of order":     func(m *Machine) { slices.Reverse(m.cluster.verdicts) },
	"incident of the future": func(m *Machine) {
		m.cluster.incidents = slices.Clone(m.cluster.incidents)
		m.cluster.incidents[len(m.cluster.incidents)-1].Sequence = m.index + 1
	},
	"incidents out of order": func(m *Machine) {
		m.cluster.incidents = slices.Clone(m.cluster.incidents)
		slices.Reverse(m.cluster.incidents)
	},
	"too many incidents": func(m *Machine) { m.limits.incidents = 1 },
	"too many standings": func(m *Machine) { m.limits.registrations = 1 },
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
		"key sizes not counted", "key not indexed", "too many keys", "event in the wrong place", "member with an address",
		"too many incidents", "too many standings",
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
		"members out of order", "standings out of order", "verdicts out of order", "incidents out of order", "member with an address",
		"too many incidents", "too many standings",
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
		"key":              func(m *Machine) { m.keys.chunks[0][20] ^= 1 },
		"time of cluster":  func(m *Machine) { m.cluster.time++ },
		"suffrage":         func(m *Machine) { m.cluster.members[0].Suffrage = dems.Nonvoter },
		"condition":        func(m *Machine) { m.cluster.standings[0].Condition = dems.Rejoining },
		"removal":          func(m *Machine) { m.cluster.standings[1].removals[0] = 1 },
		"time of verdict":  func(m *Machine) { m.cluster.verdicts[0].time-- },
		"text of incident": func(m *Machine) { m.cluster.incidents[0].Detail = "nothing" },
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
