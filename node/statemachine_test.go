package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/fsm"
	"dems/node/citylog"
	"dems/node/storage"

	"github.com/hashicorp/raft"
)

// fixture is a state machine over a real data folder, without Raft.
type fixture struct {
	*stateMachine
	folder  *storage.Folder
	failure error
	once    sync.Once
	broken  chan struct{}
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{broken: make(chan struct{})}
	fail := func(err error) { f.once.Do(func() { f.failure = err; close(f.broken) }) }
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	var err error
	f.folder, err = storage.Open(t.Context(), storage.Config{
		Dir: dir, ID: "n1", Cities: dems.DefaultCities(), Logger: quiet, RaftLogger: newRaftLogger(quiet), Fail: fail,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.stateMachine = &stateMachine{
		id: "n1", incarnation: 1, cities: dems.DefaultCities(), log: f.folder.Log, snapshots: f.folder.Snapshots, ring: newRing(),
		history: newHistory(historyStates), faults: newFaults(false, nil, nil), told: func() {}, metrics: newMetrics(nil), logger: quiet, fail: fail,
		failed: f.broken, ready: make(chan struct{}), machine: fsm.New(dems.DefaultCities()), applying: make(chan struct{}, 1),
	}
	f.confirm = func(context.Context, time.Duration, []raft.Server, uint64, dems.Digest, bool) error { return nil }
	f.logs, err = citylog.Open(citylog.Config{
		Dir: filepath.Join(dir, "logs"), Cities: dems.DefaultCities(), State: f.stateMachine, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before cleanups run
	done := make(chan error, 1)
	go func() { done <- f.logs.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, f.folder.Close()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// entry returns a log entry with a front end's registration or, from number 1 on, a batch of its session.
func entry(index, number uint64) *raft.Log {
	e := dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: "fe1", Session: 7, Time: time.UnixMilli(1)}}
	if number > 0 {
		by, _ := dems.ParseUserID("TORM0001")
		id, _ := dems.ParseEventID("TORA100519")
		e = dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{Session: 7, Number: number, Commands: []dems.Command{{
			Op: dems.AddEvent, Time: time.UnixMilli(2), By: by, Event: dems.EventKey{Type: dems.Seminar, ID: id}, Capacity: uint32(number),
		}}}}
	}
	return &raft.Log{Index: index, Term: 3, Type: raft.LogCommand, Data: dems.AppendEntry(nil, &e)}
}

func configurationOf(index uint64, ids ...string) *raft.Log {
	var servers raft.Configuration
	for _, id := range ids {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	return &raft.Log{Index: index, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(servers)}
}

// take writes a snapshot of the state into the folder and returns what Raft would restore it from.
func (f *fixture) take(t *testing.T, index uint64, change func([]byte) []byte) io.ReadCloser {
	t.Helper()
	taken, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Release()
	var content bytes.Buffer
	if err := taken.Persist(&memorySink{Buffer: &content}); err != nil {
		t.Fatal(err)
	}
	_, transport := raft.NewInmemTransport("n1")
	servers := raft.DecodeConfiguration(configurationOf(1, "n1.1", "n2.1").Data)
	sink, err := f.snapshots.Create(1, index, 3, servers, 4, transport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(change(content.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	_, reader, err := f.snapshots.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	return wrapped{reader}
}

// wrapped is how Raft hands a snapshot's reader on.
type wrapped struct{ io.ReadCloser }

func (w wrapped) WrappedReadCloser() io.ReadCloser { return w.ReadCloser }

type memorySink struct{ *bytes.Buffer }

func (*memorySink) Close() error  { return nil }
func (*memorySink) Cancel() error { return nil }
func (*memorySink) ID() string    { return "memory" }

func same(data []byte) []byte { return data }

func TestEntriesAreAppliedAndVotedOn(t *testing.T) {
	f := newFixture(t)
	responses := f.ApplyBatch([]*raft.Log{configurationOf(1, "n1.1", "n2.1"), entry(2, 0), entry(5, 1), entry(6, 1)})
	if vote := responses[0].(*response).ballot.vote; vote.Index != 1 || vote.Session != 0 || vote.State == (dems.Digest{}) {
		t.Errorf("a configuration gave %+v", vote)
	}
	registered, first, again := responses[1].(*response), responses[2].(*response), responses[3].(*response)
	if vote := registered.ballot.vote; vote.Session != 7 || vote.Batch != 0 || vote.Index != 2 || registered.refused != "" {
		t.Errorf("%+v", registered)
	}
	if vote := first.ballot.vote; vote.Index != 5 || vote.Batch != 1 || vote.Results != dems.DigestOf(first.ballot.results) || first.term != 3 {
		t.Errorf("%+v", first)
	}
	if again.ballot.vote.Results != first.ballot.vote.Results || again.ballot.vote.Index != 6 {
		t.Errorf("applied twice: %+v", again)
	}
	if f.applied.get() != 6 || len(f.getConfiguration().servers) != 2 {
		t.Errorf("applied %d, %+v", f.applied.get(), f.getConfiguration())
	}
	if got := f.Apply(entry(9, 2)).(*response); got.ballot.vote.Index != 9 {
		t.Errorf("%+v", got)
	}
}

func TestNothingIsAppliedAfterAFailure(t *testing.T) {
	f := newFixture(t)
	responses := f.ApplyBatch([]*raft.Log{entry(2, 0), {Index: 3, Data: []byte("nonsense")}, entry(4, 1)})
	if responses[1] != error(errFailed) || responses[2] != error(errFailed) || f.failure == nil {
		t.Fatalf("%v, failure %v", responses, f.failure)
	}
	if _, found := f.ring.find(7, 0); found || f.applied.get() != 0 {
		t.Error("a failed node votes")
	}
	if _, err := f.Snapshot(); !errors.Is(err, errFailed) {
		t.Errorf("a failed node takes a snapshot: %v", err)
	}
}

// TestUndefinedStateIsSeenByNobody makes sure that there is no moment in which the state of an entry that could not be
// applied can be read and the node has not failed.
func TestUndefinedStateIsSeenByNobody(t *testing.T) {
	f := newFixture(t)
	fail, readable := f.fail, false
	f.fail = func(err error) {
		if f.mu.TryRLock() {
			readable = true
			f.mu.RUnlock()
		}
		fail(err)
	}
	f.ApplyBatch([]*raft.Log{{Index: 3, Data: []byte("nonsense")}})
	if readable || !f.hasFailed() {
		t.Errorf("readable %v, failed %v", readable, f.hasFailed())
	}
}

// TestSnapshotWaitsForRecords tries to take a snapshot between the entries of one batch: it would count records that the city logs
// are only given after the last.
func TestSnapshotWaitsForRecords(t *testing.T) {
	f := newFixture(t)
	f.ApplyBatch([]*raft.Log{entry(2, 0)})
	tried := 0
	f.told = func() {
		tried++
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.stateMachine.take(ctx); !errors.Is(err, context.Canceled) || len(f.applying) != 1 {
			t.Errorf("a snapshot was taken, %v", err)
		}
	}
	f.ApplyBatch([]*raft.Log{entry(5, 1), configurationOf(6, "n1.1"), entry(7, 2)})
	taken, err := f.stateMachine.take(t.Context())
	if err != nil || tried != 1 {
		t.Fatalf("%v, tried %d times", err, tried)
	}
	if err := taken.check(t.Context()); err != nil || taken.Index() != 7 {
		t.Errorf("the snapshot of index %d: %v", taken.Index(), err)
	}
}

func TestSnapshotFromTheLeaderIsTakenOver(t *testing.T) {
	leader, f := newFixture(t), newFixture(t)
	leader.ApplyBatch([]*raft.Log{entry(2, 0), entry(5, 1), entry(6, 2)})
	reader := leader.take(t, 8, same)
	f.ApplyBatch([]*raft.Log{entry(2, 0)})
	if err := f.Restore(reader); err != nil {
		t.Fatal(err)
	}
	if f.applied.get() != 6 || f.machine.Digest() != leader.machine.Digest() || f.getConfiguration().index != 4 {
		t.Fatalf("applied %d, %+v", f.applied.get(), f.getConfiguration())
	}
	if err := f.logs.Sync(t.Context(), f.stateMachine); !errors.Is(err, citylog.ErrGap) {
		t.Fatalf("the city logs are incomplete, but: %v", err)
	}
}

func TestUnusableSnapshotsAreRefusedAndRemoved(t *testing.T) {
	f := newFixture(t)
	f.ApplyBatch([]*raft.Log{entry(2, 0), entry(5, 1)})
	older := f.take(t, 5, same)
	f.ApplyBatch([]*raft.Log{entry(6, 2)})
	before := f.machine.Digest()
	for want, reader := range map[string]io.ReadCloser{
		"but 6 is applied here": older,
		"snapshot":              f.take(t, 7, func(data []byte) []byte { data[len(data)/2] ^= 1; return data }),
		"snapshot from":         f.take(t, 8, func(data []byte) []byte { return data[:len(data)/2] }),
		"does not say which":    io.NopCloser(strings.NewReader("")),
		"not say which":         wrapped{io.NopCloser(strings.NewReader(""))},
	} {
		if err := f.Restore(reader); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if f.machine.Digest() != before || f.applied.get() != 6 {
		t.Error("the state changed")
	}
	if left, err := f.snapshots.List(); err != nil || len(left) != 0 {
		t.Errorf("%d snapshots are left, %v", len(left), err)
	}
}

// TestSnapshotThatTheLogContradicts is sent to a node whose log goes on beyond it with entries of a leader that was
// replaced: they must not survive, and Raft cannot be made to forget them while it runs.
func TestSnapshotThatTheLogContradicts(t *testing.T) {
	for term, stale := range map[uint64]bool{2: true, 3: false} {
		leader, f := newFixture(t), newFixture(t)
		leader.ApplyBatch([]*raft.Log{entry(2, 0), entry(5, 1)})
		for index := uint64(1); index <= 9; index++ {
			if err := f.log.StoreLog(&raft.Log{Index: index, Term: term, Type: raft.LogNoop}); err != nil {
				t.Fatal(err)
			}
		}
		err := f.Restore(leader.take(t, 6, same))
		if errors.Is(err, errStaleLog) != stale || f.hasFailed() != stale || (f.applied.get() == 5) == stale {
			t.Errorf("term %d: %v, failed %v, applied %d", term, err, f.hasFailed(), f.applied.get())
		}
	}
}

func TestConfigurationDuringReplay(t *testing.T) {
	f := newFixture(t)
	ready := make(chan struct{})
	f.ready = ready
	if got := f.getConfiguration(); got.index != 0 {
		t.Fatalf("%+v", got)
	}
	f.remember(50, []raft.Server{{ID: "n1.1"}, {ID: "n2.2"}, {ID: "n3.1"}})
	f.ApplyBatch([]*raft.Log{configurationOf(1, "n1.1", "n2.1")}) // long ago
	if got := f.getConfiguration(); got.index != 50 || len(got.servers) != 3 {
		t.Fatalf("while replaying: %+v", got)
	}
	close(ready) // the entry at 50 was cut off: it never was committed
	if got := f.getConfiguration(); got.index != 1 {
		t.Fatalf("when ready: %+v", got)
	}
	f.ApplyBatch([]*raft.Log{configurationOf(60, "n1.1")})
	if got := f.getConfiguration(); got.index != 60 {
		t.Fatalf("%+v", got)
	}
}
