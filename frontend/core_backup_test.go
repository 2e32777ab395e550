package frontend

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"dems"
	"dems/backup"
)

func (r *fakeReplica) StateAt(ctx context.Context, index uint64) (digest dems.Digest, err error) {
	var alter func(uint64, *dems.Digest)
	err = r.call(ctx, func(n *fakeNode) (bool, error) {
		alter = n.lies.stateAt
		if index == 0 || index > uint64(len(n.states)) {
			return true, &dems.ReplicaError{Kind: dems.NotReady}
		}
		digest = n.states[index-1]
		return true, nil
	})
	if err == nil && alter != nil {
		alter(index, &digest)
	}
	return digest, err
}

func (r *fakeReplica) Backup(ctx context.Context, minIndex uint64, receive func(dems.BackupPart) error) error {
	parts := []dems.BackupPart{{}}
	var alter func(int, *dems.BackupPart) error
	err := r.call(ctx, func(n *fakeNode) (bool, error) {
		if n.machine.Index() < minIndex && !n.lies.invents {
			return false, nil
		}
		n.backups++
		alter = n.lies.part
		snapshot := n.machine.Snapshot()
		parts[0].Origin = snapshot.Origin()
		w, err := backup.NewWriter(partWriter{&parts}, backup.HeadOf(snapshot))
		if err != nil {
			return true, err
		}
		if _, err := snapshot.WriteTo(w.State()); err != nil {
			return true, err
		}
		for _, named := range dems.DefaultCities() {
			if err := w.Records(named.City, bytes.Join(n.records[named.City], nil)); err != nil {
				return true, err
			}
		}
		return true, w.Close()
	})
	for number := 0; err == nil && number < len(parts); number++ {
		if alter != nil {
			if err := alter(number, &parts[number]); err != nil {
				return err
			}
		}
		err = receive(parts[number])
	}
	return err
}

// partWriter makes a part of each write.
type partWriter struct{ parts *[]dems.BackupPart }

func (w partWriter) Write(data []byte) (int, error) {
	*w.parts = append(*w.parts, dems.BackupPart{Data: bytes.Clone(data)})
	return len(data), nil
}

// backedUp asks for a backup and returns what came of it.
func (h *harness) backedUp() (of Backup, data []byte, err error) {
	var out bytes.Buffer
	err = h.core.Backup(context.Background(), func(b Backup) (io.Writer, error) {
		of = b
		return &out, nil
	})
	return of, out.Bytes(), err
}

// wantBackup asks for a backup, which has to be whole and by one of these nodes.
func (h *harness) wantBackup(agreeing int, by ...dems.NodeID) Backup {
	h.t.Helper()
	of, data, err := h.backedUp()
	if err != nil {
		h.t.Fatal(err)
	}
	head, _, err := backup.Verify(bytes.NewReader(data))
	if err != nil || head.Origin != of.Origin {
		h.t.Fatalf("%+v: %+v, %v", of, head, err)
	}
	given := false
	for _, id := range by {
		given = given || of.Node == id
	}
	if !given || of.Agreeing != agreeing || of.Asked != len(h.w.members) {
		h.t.Errorf("%+v, want %d votes and it given by %v", of, agreeing, by)
	}
	return of
}

func (h *harness) wantNoBackup(code dems.Code, within time.Duration) {
	h.t.Helper()
	started := time.Now()
	_, data, err := h.backedUp()
	if dems.CodeOf(err) != code || len(data) > 0 {
		h.t.Errorf("%v after %d bytes, want %v", err, len(data), code)
	}
	if took := time.Since(started); took > within {
		h.t.Errorf("it took %v", took)
	}
}

func TestBackupIsConfirmedByAMajority(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		reply := h.must(book(1, 1), 0)
		of := h.wantBackup(2, "n2", "n3")
		if of.Origin.Index < reply.Sequence || of.Origin.Digest != h.node(1).machine.Digest() {
			t.Errorf("%+v", of)
		}
	})
}

// TestBackupOfWrongNodes has nodes that are asked first be wrong in every way in which they can: another one's backup is taken.
func TestBackupOfWrongNodes(t *testing.T) {
	for name, wrong := range map[string]lies{
		"of another state": {part: func(number int, part *dems.BackupPart) error {
			if part.Origin.Digest[0]++; number > 0 {
				panic("asked for more")
			}
			return nil
		}},
		"of another index": {part: func(number int, part *dems.BackupPart) error { part.Origin.Index--; return nil }},
		"that does not know its state": {part: func(number int, part *dems.BackupPart) error {
			if number > 0 {
				return &dems.ReplicaError{Kind: dems.NotReady, Err: errors.New("its records give another digest")}
			}
			return nil
		}},
		"that gives none": {part: func(int, *dems.BackupPart) error { return &dems.ReplicaError{Kind: dems.BadRequest} }},
		"that gives nothing of it": {part: func(number int, _ *dems.BackupPart) error {
			if number > 0 {
				return errors.New("gone")
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.must(addEvent(1, 5), 0)
				h.w.tell(h.node(2), wrong)
				h.wantBackup(2, "n3")
				h.w.tell(h.node(3), wrong)
				h.wantBackup(2, "n1")
				h.w.tell(h.node(1), wrong)
				code := dems.Unavailable
				if name == "of another state" {
					code = dems.NoMajority
				}
				h.wantNoBackup(code, time.Second)
			})
		})
	}
}

// TestBackupNobodyConfirms has two of three nodes have another state at the backup's index: there is no backup.
func TestBackupNobodyConfirms(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		for number := 1; number <= 2; number++ {
			h.w.tell(h.node(number), lies{stateAt: func(_ uint64, digest *dems.Digest) { digest[number]++ }})
		}
		h.wantNoBackup(dems.NoMajority, time.Second)
		h.w.tell(h.node(1), lies{})
		h.wantBackup(2, "n2", "n3") // n2 does not stand by what it gives, and the others do
	})
}

// TestBackupNeedsAMajority counts nodes that are dead, hanging or late.
func TestBackupNeedsAMajority(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.set(h.node(2), dead)
		h.wantBackup(2, "n1", "n3")
		h.w.set(h.node(3), hanging)
		h.wantNoBackup(dems.Unavailable, laneTimeout)
		h.w.set(h.node(2), up)
		started := time.Now()
		h.wantBackup(2, "n1", "n2")
		if took := time.Since(started); took > laneTimeout {
			t.Errorf("it took %v", took)
		}
		h.w.set(h.node(3), up)
		h.wantBackup(2, "n1", "n2", "n3")
	})
}

// TestBackupHoldsWhatOthersAcknowledged asks a front end that has seen nothing of what another one has acknowledged: a node that is
// late does not give a backup without it.
func TestBackupHoldsWhatOthersAcknowledged(t *testing.T) {
	ready(t, 3, func(h *harness) {
		other := h.start("fe2")
		h.awaitReady(other)
		h.w.setLate(h.node(2), true)
		h.w.setLate(h.node(3), false)
		reply := h.mustAt(other, addEvent(1, 5), time.Second)
		started := time.Now()
		of := h.wantBackup(2, "n1", "n3")
		if of.Origin.Index < reply.Sequence {
			t.Errorf("%+v, and %d was acknowledged", of, reply.Sequence)
		}
		if took := time.Since(started); took > headPatience+time.Second { // n2 is asked first and cannot give it
			t.Errorf("it took %v", took)
		}
		h.w.setLate(h.node(2), false)
		h.wantBackup(2, "n2", "n3")
	})
}

// TestBackupWhereANodeClaimsTooMuch has one node say that it has applied what nobody ever proposed: nobody can give a backup of that,
// and what a majority has is given. Where only that node and another one answer, there is none: what the third has acknowledged is
// not known.
func TestBackupWhereANodeClaimsTooMuch(t *testing.T) {
	ready(t, 3, func(h *harness) {
		reply := h.must(addEvent(1, 5), 0)
		h.w.tell(h.node(2), lies{status: func(status *dems.NodeStatus) { status.Applied = 1 << 60 }})
		started := time.Now()
		if of := h.wantBackup(2, "n1", "n2", "n3"); of.Origin.Index < reply.Sequence {
			t.Errorf("%+v, and %d was acknowledged", of, reply.Sequence)
		}
		if took := time.Since(started); took > headPatience+2*nextPatience {
			t.Errorf("it took %v", took)
		}
		h.w.tell(h.node(2), lies{
			status:  func(status *dems.NodeStatus) { status.Applied++ },
			part:    func(_ int, part *dems.BackupPart) error { part.Origin.Index++; return nil },
			invents: true,
		})
		h.wantNoBackup(dems.Unavailable, 2*laneTimeout+headPatience+2*nextPatience) // it might alone have acknowledged something
		h.w.tell(h.node(2), lies{status: func(status *dems.NodeStatus) { status.Applied = 1 << 60 }})
		h.w.set(h.node(3), dead)
		h.wantNoBackup(dems.Unavailable, laneTimeout+headPatience+2*nextPatience)
	})
}

// TestBackupWhereANodeClaimsTooLittle has one node know nothing of what it acknowledged, and another one be late: what the third alone
// has is not given away for less.
func TestBackupWhereANodeClaimsTooLittle(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.setLate(h.node(3), true)
		h.must(addEvent(1, 5), 0)
		h.w.tell(h.node(2), lies{
			status:  func(status *dems.NodeStatus) { status.Applied = 1 },
			stateAt: func(_ uint64, digest *dems.Digest) { digest[0]++ },
			part:    func(int, *dems.BackupPart) error { return &dems.ReplicaError{Kind: dems.BadRequest} },
		})
		h.wantNoBackup(dems.NoMajority, laneTimeout+headPatience+2*nextPatience+confirmPatience)
		h.w.setLate(h.node(3), false)
		h.wantBackup(2, "n1", "n3")
	})
}

// TestBackupDoesNotBelieveWhoReplays has one of the two that have acknowledged a write die and the other one start again: until it has
// applied its log again, what it says that it has applied says nothing of what it has acknowledged.
func TestBackupDoesNotBelieveWhoReplays(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.setLate(h.node(3), true)
		h.must(addEvent(1, 5), 0)
		h.w.set(h.node(1), dead)
		h.w.change(func() { h.node(2).unready = true })
		h.w.tell(h.node(2), lies{status: func(status *dems.NodeStatus) { status.Applied = 1 }})
		h.wantNoBackup(dems.Unavailable, laneTimeout)
	})
}

// TestBackupWaitsForLateVoters confirms a backup by a voter that comes to its index only later.
func TestBackupWaitsForLateVoters(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.set(h.node(1), up)
		h.must(addEvent(1, 5), 0)
		h.w.tell(h.node(2), lies{part: func(number int, _ *dems.BackupPart) error {
			if number == 0 { // between the snapshot and the questions
				h.w.change(func() { h.node(1).states, h.node(3).states = h.node(1).states[:1], h.node(3).states[:1] })
				time.AfterFunc(time.Second, func() {
					h.w.change(func() { h.node(1).states = h.node(2).states })
				})
			}
			return nil
		}})
		started := time.Now()
		h.wantBackup(2, "n2")
		if took := time.Since(started); took < time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestSlowNodeIsPassedOver has a node say nothing for a while, before what it gives is known and before the first piece.
func TestSlowNodeIsPassedOver(t *testing.T) {
	for at, patience := range map[int]time.Duration{0: headPatience, 1: partPatience} {
		ready(t, 3, func(h *harness) {
			h.must(addEvent(1, 5), 0)
			h.w.tell(h.node(2), lies{part: func(number int, _ *dems.BackupPart) error {
				if number == at {
					time.Sleep(patience + time.Second)
				}
				return nil
			}})
			h.wantBackup(2, "n3")
		})
	}
}

// TestBackupThatBreaksOff has a node end its backup in the middle: it cannot be gone on with from another one.
func TestBackupThatBreaksOff(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.tell(h.node(2), lies{part: func(number int, _ *dems.BackupPart) error {
			if number == 3 {
				return errors.New("gone")
			}
			return nil
		}})
		_, data, err := h.backedUp()
		if err == nil || len(data) == 0 {
			t.Errorf("%v after %d bytes", err, len(data))
		}
		if _, _, err := backup.Verify(bytes.NewReader(data)); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("what came of it: %v", err)
		}
		if h.node(3).backups+h.node(1).backups > 0 {
			t.Error("another node was asked")
		}
		h.wantBackup(2, "n3") // whoever asks again gets it from somebody else
	})
}

// TestBackupReaderDecides ends with the error of whoever takes the backup.
func TestBackupReaderDecides(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		enough := errors.New("enough")
		err := h.core.Backup(context.Background(), func(Backup) (io.Writer, error) { return nil, enough })
		if !errors.Is(err, enough) {
			t.Errorf("%v", err)
		}
		err = h.core.Backup(context.Background(), func(Backup) (io.Writer, error) {
			return writerFunc(func([]byte) (int, error) { return 0, enough }), nil
		})
		if !errors.Is(err, enough) {
			t.Errorf("%v", err)
		}
		if asked := h.node(1).backups + h.node(2).backups + h.node(3).backups; asked != 2 {
			t.Errorf("%d backups were given", asked)
		}
		ctx, cancel := context.WithCancel(context.Background())
		err = h.core.Backup(ctx, func(Backup) (io.Writer, error) {
			return writerFunc(func(data []byte) (int, error) { cancel(); <-ctx.Done(); return 0, ctx.Err() }), nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(data []byte) (int, error) { return f(data) }

// TestFewBackupsAtOnce refuses one more, and takes the next when one has ended.
func TestFewBackupsAtOnce(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		leave, inside, done := make(chan struct{}), make(chan struct{}), make(chan error)
		for range maxBackups {
			go func() {
				first := true
				done <- h.core.Backup(context.Background(), func(Backup) (io.Writer, error) {
					return writerFunc(func(data []byte) (int, error) {
						if first {
							first = false
							inside <- struct{}{}
							<-leave
						}
						return len(data), nil
					}), nil
				})
			}()
			<-inside
		}
		h.wantNoBackup(dems.RateLimited, 0)
		close(leave)
		for range maxBackups {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		h.wantBackup(2, "n2", "n3")
	})
}

// TestEndOfTheFrontEndEndsBackups stops the front end while somebody reads slowly.
func TestEndOfTheFrontEndEndsBackups(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		stopping := make(chan struct{})
		err := h.core.Backup(context.Background(), func(Backup) (io.Writer, error) {
			go func() {
				h.stops[0]()
				close(stopping)
			}()
			return writerFunc(func(data []byte) (int, error) {
				<-h.core.reader.ended
				return 0, errors.New("the connection is closed")
			}), nil
		})
		<-stopping
		if dems.CodeOf(err) != dems.Unavailable {
			t.Errorf("%v", err)
		}
		h.wantNoBackup(dems.Unavailable, 0)
	})
}
