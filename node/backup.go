package node

import (
	"bytes"
	"context"
	"fmt"

	"dems"
	"dems/backup"
	"dems/fsm"
	"dems/node/citylog"
)

// maxBackups is how many backups a node gives at once. Each keeps a copy of what changes meanwhile.
const maxBackups = 2

// Backup implements transport.Handler. The backup is that of this node's own word: whoever asks for it makes sure that others have
// the same state at its index. The node only makes sure that its records are what their digests say.
func (n *Node) Backup(ctx context.Context, minIndex uint64, send func(dems.BackupPart) error) error {
	if err := n.mayAnswer(); err != nil {
		return err
	}
	select {
	case n.backups <- struct{}{}:
		defer func() { <-n.backups }()
	default:
		return replicaError(dems.NotReady, errBusy)
	}
	if err := n.waitApplied(ctx, minIndex); err != nil {
		return err
	}
	taken, err := n.state.take(ctx)
	if err != nil {
		return replicaError(dems.NotReady, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(n.work, func() { cancel(errStopping) })()
	if err := send(dems.BackupPart{Origin: taken.Origin()}); err != nil {
		return err
	}
	if err := taken.check(ctx); err != nil {
		return replicaError(dems.NotReady, err)
	}
	return n.writeBackup(ctx, taken.Snapshot, pieces{ctx, send})
}

// pieces is a writer whose every write is a piece of a backup.
type pieces struct {
	ctx  context.Context
	send func(dems.BackupPart) error
}

// Write implements io.Writer.
func (p pieces) Write(data []byte) (int, error) {
	if err := context.Cause(p.ctx); err != nil {
		return 0, err
	}
	if err := p.send(dems.BackupPart{Data: data}); err != nil {
		return 0, err
	}
	return len(data), nil
}

// writeBackup writes a backup of a snapshot whose city logs are complete.
func (n *Node) writeBackup(ctx context.Context, snapshot *fsm.Snapshot, to pieces) error {
	w, err := backup.NewWriter(to, backup.HeadOf(snapshot))
	if err != nil {
		return err
	}
	if _, err := snapshot.WriteTo(w.State()); err != nil {
		return err
	}
	for _, log := range snapshot.Logs() {
		for number := uint64(0); number < log.Records; {
			page, err := n.logs.Page(log.City, number, citylog.MaxPageBytes)
			if err != nil {
				return replicaError(dems.NotReady, err)
			}
			lines, count := firstLines(page.Records, log.Records-number)
			if count == 0 {
				return replicaError(dems.NotReady, fmt.Errorf("the city log of %s ends at record %d", log.City, number))
			}
			if err := w.Records(log.City, lines); err != nil {
				return err
			}
			number += count
		}
	}
	return w.Close()
}

// firstLines returns the first lines, at most so many, and how many they are.
func firstLines(text []byte, most uint64) (lines []byte, count uint64) {
	end := 0
	for ; count < most; count++ {
		length := bytes.IndexByte(text[end:], '\n') + 1
		if length == 0 {
			break
		}
		end += length
	}
	return text[:end], count
}
