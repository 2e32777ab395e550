package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"dems"
	"dems/backup"
	"dems/fsm"
	"dems/node/citylog"
	"dems/node/storage"
)

// readBuffer is how many bytes of a backup are read from the disk at once.
const readBuffer = 1 << 20

// Restored is what a backup was of that was restored.
type Restored struct {
	Origin dems.Origin
	Cities dems.Cities
	Bytes  int64 // of the backup
}

// Restore makes data folders from a backup, each of which one node of a new cluster is then started with. The backup is read
// twice: everything in it is checked, as a node would when it starts, before anything is written. It takes as much memory as
// the state. The folders must be empty or not exist; each is whole in the end or holds nothing that a node starts with. Cities,
// if there are any, have to be those of the backup.
func Restore(ctx context.Context, from io.ReadSeeker, cities dems.Cities, dirs ...string) (Restored, error) {
	head, bytes, err := checkBackup(ctx, from, cities)
	if err != nil {
		return Restored{}, err
	}
	for _, dir := range dirs {
		if err := restoreInto(ctx, from, &head, dir); err != nil {
			return Restored{}, err
		}
	}
	return Restored{Origin: head.Origin, Cities: head.Cities, Bytes: bytes}, nil
}

// checkBackup reads a backup and makes sure that a cluster can go on from it.
func checkBackup(ctx context.Context, from io.ReadSeeker, cities dems.Cities) (backup.Head, int64, error) {
	r, err := open(ctx, from)
	if err != nil {
		return backup.Head{}, 0, err
	}
	head := r.Head()
	if len(cities) > 0 && cities.String() != head.Cities.String() {
		return backup.Head{}, 0, fmt.Errorf("the backup is of a cluster with the cities %s, not %s: the cities of a cluster do not change",
			head.Cities, cities)
	}
	machine, err := fsm.Restore(r.State(), head.Cities)
	if err == nil {
		err = head.Describes(machine.Origin(), machine.Logs())
	}
	for err == nil {
		_, _, err = r.Records()
	}
	if !errors.Is(err, io.EOF) {
		return backup.Head{}, 0, err
	}
	return head, r.Size(), nil
}

// restoreInto writes a backup, which was checked, into a data folder.
func restoreInto(ctx context.Context, from io.ReadSeeker, head *backup.Head, dir string) error {
	restoration, err := storage.BeginRestore(ctx, dir, head.Origin, head.Cities)
	if err != nil {
		return err
	}
	if err := fill(ctx, restoration, from, head); err != nil {
		return errors.Join(err, restoration.Abort())
	}
	return restoration.Finish()
}

// open begins to read a backup.
func open(ctx context.Context, from io.ReadSeeker) (*backup.Reader, error) {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	return backup.NewReader(bufio.NewReaderSize(&interruptible{ctx, from}, readBuffer))
}

func fill(ctx context.Context, restoration *storage.Restoration, from io.ReadSeeker, head *backup.Head) (err error) {
	r, err := open(ctx, from)
	if err != nil {
		return err
	}
	again := r.Head()
	if err := again.Describes(head.Origin, head.Logs); err != nil {
		return fmt.Errorf("the backup was changed while it was restored: %w", err)
	}
	err = restoration.State(func(w io.Writer) error {
		_, err := io.Copy(w, r.State())
		return err
	})
	if err != nil {
		return err
	}
	logs := make(map[dems.City]*citylog.Writer, len(head.Cities))
	defer func() {
		for _, log := range logs {
			err = errors.Join(err, log.Close())
		}
	}()
	for _, named := range head.Cities {
		if logs[named.City], err = citylog.Create(restoration.CityLogs(), named.City); err != nil {
			delete(logs, named.City)
			return err
		}
	}
	for {
		city, lines, err := r.Records()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = logs[city].Append(lines)
		}
		if err != nil {
			return err
		}
	}
}

// interruptible is a reader that fails when a context has ended.
type interruptible struct {
	ctx  context.Context
	from io.Reader
}

// Read implements io.Reader.
func (r *interruptible) Read(data []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.from.Read(data)
}
