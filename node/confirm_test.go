package node

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"dems"

	"github.com/hashicorp/raft"
)

// question is what was asked of the voters.
type question struct {
	voters int
	index  uint64
	digest dems.Digest
	own    bool
}

// answering makes a state machine's voters answer with an error, or nil, and returns what they will have been asked.
func (f *fixture) answering(answer error) *[]question {
	var asked []question
	f.confirm = func(_ context.Context, _ time.Duration, voters []raft.Server, index uint64, digest dems.Digest, own bool) error {
		asked = append(asked, question{len(voters), index, digest, own})
		return answer
	}
	return &asked
}

var errContradicted = errors.New("a majority had another state")

func TestSnapshotIsTakenOnlyOfAStateThatVotersDoNotContradict(t *testing.T) {
	f := newFixture(t)
	f.ApplyBatch([]*raft.Log{configurationOf(1, "n1.1", "n2.1", "n3.1"), entry(2, 0), entry(5, 1)})
	for _, answer := range []error{nil, errContradicted} {
		asked := f.answering(answer)
		taken, err := f.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		var content bytes.Buffer
		if err := taken.Persist(&memorySink{Buffer: &content}); !errors.Is(err, answer) || (content.Len() > 0) != (answer == nil) {
			t.Errorf("%v: %v, %d bytes", answer, err, content.Len())
		}
		if want := (question{3, 5, f.machine.Digest(), true}); len(*asked) != 1 || (*asked)[0] != want {
			t.Errorf("asked %+v, want %+v", *asked, want)
		}
	}
	if f.hasFailed() {
		t.Error("the node does not go on")
	}
}

func TestDamagedStateIsNotSnapshot(t *testing.T) {
	f := newFixture(t)
	f.ApplyBatch([]*raft.Log{entry(2, 0), entry(5, 1)})
	f.damage()
	asked := f.answering(nil)
	taken, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var content bytes.Buffer
	if err := taken.Persist(&memorySink{Buffer: &content}); err == nil || content.Len() > 0 || len(*asked) != 0 || f.hasFailed() {
		t.Errorf("%v, %d bytes, asked %+v", err, content.Len(), *asked)
	}
}

func TestSnapshotFromTheLeaderThatVotersContradict(t *testing.T) {
	leader, f := newFixture(t), newFixture(t)
	leader.ApplyBatch([]*raft.Log{entry(2, 0), entry(5, 1), entry(6, 2)})
	f.ApplyBatch([]*raft.Log{entry(2, 0)})
	before := f.machine.Digest()
	for i, answer := range []error{errContradicted, nil} {
		reader := leader.take(t, 8+uint64(i), same)
		asked := f.answering(answer)
		if err := f.Restore(reader); !errors.Is(err, answer) {
			t.Fatalf("%v: %v", answer, err)
		}
		if want := (question{2, 6, leader.machine.Digest(), false}); len(*asked) != 1 || (*asked)[0] != want {
			t.Errorf("asked %+v, want %+v", *asked, want)
		}
		if answer != nil && (f.machine.Digest() != before || f.applied.get() != 2 || f.hasFailed()) {
			t.Errorf("applied %d, failed: %v", f.applied.get(), f.failure)
		}
	}
	if f.machine.Digest() != leader.machine.Digest() {
		t.Error("a snapshot that nobody contradicts was not taken over")
	}
	for _, answer := range []error{nil, errContradicted} {
		leader.answering(nil)
		reader := leader.take(t, 10, same)
		leader.answering(answer)
		if err := leader.Restore(reader); !errors.Is(err, answer) {
			t.Fatalf("%v: %v", answer, err)
		}
		list, err := leader.snapshots.List()
		if err != nil || (len(list) > 0) != (answer == nil) {
			t.Errorf("%v: %d snapshots are left, %v", answer, len(list), err)
		}
		for _, kept := range list {
			if err := leader.snapshots.Remove(kept.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAuditFindsWhatChangedByItself(t *testing.T) {
	f := newFixture(t)
	if changed, err := f.audit(t.Context()); changed || err != nil {
		t.Fatal(changed, err)
	}
	if _, found := f.ring.find(0, 0); found {
		t.Fatal("a node votes for an index that nothing stands at")
	}
	f.ApplyBatch([]*raft.Log{entry(2, 0), entry(5, 1)})
	before := f.machine.Digest()
	expect := func(index uint64, state dems.Digest) {
		t.Helper()
		b, found := f.ring.find(0, 0)
		want := dems.Vote{Node: "n1", Incarnation: 1, Index: index, State: state}
		if known, ok := f.history.at(index); !found || b.vote != want || b.results != nil || !ok || known != state {
			t.Errorf("%+v, want %+v; StateAt %v %v", b, want, known, ok)
		}
	}
	if changed, err := f.audit(t.Context()); changed || err != nil {
		t.Fatal(changed, err)
	}
	expect(5, before)
	f.damage()
	if changed, err := f.audit(t.Context()); !changed || err != nil {
		t.Fatal(changed, err)
	}
	after := f.machine.Digest()
	if after == before || after != f.machine.Recompute() {
		t.Errorf("digest %s, before %s, of the records %s", after, before, f.machine.Recompute())
	}
	expect(5, after)
	if changed, err := f.audit(t.Context()); changed || err != nil { // it is known by now
		t.Fatal(changed, err)
	}
	right := newFixture(t)
	right.ApplyBatch([]*raft.Log{entry(2, 0), entry(5, 1)})
	if wrong := f.Apply(entry(6, 2)).(*response).ballot.vote; wrong.State == right.Apply(entry(6, 2)).(*response).ballot.vote.State {
		t.Error("the next vote is the same as that of a node whose memory did not change")
	}
}

// TestAuditComesAfterTheEntrysOwnVote has an audit between the application of an entry and its vote.
func TestAuditComesAfterTheEntrysOwnVote(t *testing.T) {
	f := newFixture(t)
	f.ApplyBatch([]*raft.Log{entry(2, 0)})
	if _, err := f.applyOne(entry(5, 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.audit(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if b, found := f.ring.find(0, 0); found {
		t.Errorf("voted %+v", b.vote)
	}
	f.fail(errors.New("broken"))
	f.applied.advance(5)
	if _, err := f.audit(t.Context()); !errors.Is(err, errFailed) {
		t.Error(err)
	}
	if b, found := f.ring.find(0, 0); found {
		t.Errorf("a failed node voted %+v", b.vote)
	}
}

func TestAuditPause(t *testing.T) {
	for _, test := range []struct{ last, took, want time.Duration }{
		{5 * time.Second, 0, 5 * time.Second},
		{5 * time.Second, 25 * time.Millisecond, 5 * time.Second},
		{5 * time.Second, 30 * time.Millisecond, 6 * time.Second},
		{5 * time.Second, time.Second, 10 * time.Second},
		{150 * time.Second, time.Second, 200 * time.Second},
		{200 * time.Second, time.Millisecond, 5 * time.Second},
	} {
		if got := auditPause(5*time.Second, test.last, test.took); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
