package fsm

import (
	"bytes"
	"errors"
	"testing"

	"dems"

	"github.com/google/go-cmp/cmp"
)

// restore begins a new cluster with the machine's state.
func (h *harness) restore() {
	h.t.Helper()
	h.apply(dems.Entry{Kind: dems.RestoreEntry, Origin: h.machine.Origin()})
}

// TestRestoredClusterBeginsWithoutMembers lets go of what belonged to the old cluster, and of nothing else.
func TestRestoredClusterBeginsWithoutMembers(t *testing.T) {
	h := &harness{t: t, machine: smallMachine(t), now: testTime}
	h.index = h.machine.Index()
	m := h.machine
	before := restoredFrom(t, m)
	cities := map[dems.City]dems.Digest{}
	for _, named := range m.Cities() {
		cities[named.City] = m.CityDigest(named.City)
	}
	h.restore()
	if members, standings := m.Members(), m.Standings(); len(members)+len(standings)+len(m.cluster.verdicts) > 0 {
		t.Errorf("members %v, standings %v, verdicts %v", members, standings, m.cluster.verdicts)
	}
	if registry := m.Registry(); len(registry.Nodes)+len(registry.FrontEnds) > 0 {
		t.Errorf("registered: %+v", registry)
	}
	if len(m.sessions.open) > 0 || m.sessions.storedBytes != 0 {
		t.Errorf("%d sessions with %d bytes of results", len(m.sessions.open), m.sessions.storedBytes)
	}
	for city, digest := range cities {
		if m.CityDigest(city) != digest {
			t.Errorf("%s is another one", city)
		}
	}
	if diff := cmp.Diff(before.Incidents(0), m.Incidents(0)); diff != "" {
		t.Errorf("other incidents:\n%s", diff)
	}
	// A request that the old cluster has answered is answered from its key, in a session of a new front end.
	h.registerFrontEnd("fe1", 500)
	results, _ := h.propose(500, 1, at(withKey(add("TORM0001", "seminar", "TORM100519", 3), "k1")))
	if len(results) != 1 || !results[0].Replayed || results[0].Outcome != dems.Created {
		t.Errorf("asked again: %+v", results)
	}
	// One of a session of the old cluster is not.
	if results, _ := h.propose(testSession, 77, at(book("TORC0002", "seminar", "TORM100519"))); len(results) != 0 {
		t.Errorf("a batch of the old cluster is executed: %+v", results)
	}
	if again := restoredFrom(t, m); again.Digest() != m.Digest() {
		t.Error("written and restored, it is another state")
	}
}

// at gives a command the time of the tests.
func at(command dems.Command) dems.Command {
	command.Time = testTime
	return command
}

// TestIncarnationsBeginAnew has nodes that were replaced in the old cluster, convicted or in quarantine, begin as the first
// incarnation of the new one, under the same names and under others.
func TestIncarnationsBeginAnew(t *testing.T) {
	for _, members := range []string{"n1 n2 n3", "n1 n2 n3 n4 n5", "a1", "n2 x3"} {
		h := &harness{t: t, machine: smallMachine(t), now: testTime}
		h.index = h.machine.Index()
		h.restore()
		h.configure(members)
		want := 0
		for _, member := range h.machine.Members() {
			want++
			at := h.machine.cluster.standing(member.ID)
			if member.Incarnation != 1 || at == nil || at.Incarnation != 1 || at.Condition != dems.Correct || at.removals != [3]uint64{} {
				t.Errorf("%s: %+v stands as %+v", members, member, at)
			}
			if refused := h.registerNode(node(string(member.ID), 1)); refused != "" {
				t.Errorf("%s: %s is refused: %s", members, member.ID, refused)
			}
		}
		if standings := h.machine.Standings(); len(standings) != want {
			t.Errorf("%s: standings %+v", members, standings)
		}
	}
}

// TestLogOfAnotherBackup stops a node whose log does not follow on its state.
func TestLogOfAnotherBackup(t *testing.T) {
	m := smallMachine(t)
	other := m.Origin()
	other.Index--
	wrong := m.Origin()
	wrong.Digest[0]++
	for _, origin := range []dems.Origin{other, wrong} {
		entry := dems.AppendEntry(nil, &dems.Entry{Kind: dems.RestoreEntry, Origin: origin})
		if _, err := restoredFrom(t, m).Apply(m.Index()+1, entry); !errors.Is(err, ErrOrigin) {
			t.Errorf("%s follows on %s: %v", origin, m.Origin(), err)
		}
	}
}

// TestSnapshotOutlivesTheOldCluster writes a snapshot of the old cluster after the new one has begun.
func TestSnapshotOutlivesTheOldCluster(t *testing.T) {
	h := &harness{t: t, machine: smallMachine(t), now: testTime}
	h.index = h.machine.Index()
	snapshot := h.machine.Snapshot()
	want := snapshotBytes(t, snapshot)
	h.restore()
	h.configure("n1 n2")
	h.registerFrontEnd("fe9", 9)
	if !bytes.Equal(snapshotBytes(t, snapshot), want) {
		t.Error("the snapshot has changed")
	}
}
