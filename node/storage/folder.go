package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"dems"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

const (
	logFile     = "raft.db"
	probePrefix = ".writable-" // of files that show that a folder can be written
)

// Config says which folder to open and for whom.
type Config struct {
	Dir    string
	ID     dems.NodeID
	Cities dems.Cities
	Logger *slog.Logger
	// RaftLogger gets what the snapshot store of hashicorp/raft has to say.
	RaftLogger hclog.Logger
	// Fail is told of every write that failed and of damage found later. The node must then stop.
	Fail func(error)
	// Observe is told how long each write of log entries took. It may be nil.
	Observe func(time.Duration)
}

// Folder is an open data folder. No other process has it open.
type Folder struct {
	Marker    Marker
	Log       *Log
	Snapshots *Snapshots
	Extent    Extent             // of the log when the folder was opened
	Newest    *raft.SnapshotMeta // the newest snapshot then, nil if there was none
	lock      *os.File           // the folder itself
}

// Fresh tells whether the folder had neither log entries nor snapshots, or only the one that a backup was restored to: this
// incarnation has never been part of a cluster.
func (f *Folder) Fresh() bool { return f.Extent.Last == 0 && f.Newest == nil || f.isSeed() }

// Open checks and opens a data folder, and makes it if it is not there. An emptying that was interrupted is finished first.
func Open(ctx context.Context, config Config) (*Folder, error) {
	if config.Observe == nil {
		config.Observe = func(time.Duration) {}
	}
	if err := prepare(config.Dir); err != nil {
		return nil, err
	}
	lock, err := lockFolder(ctx, config.Dir)
	if err != nil {
		return nil, err
	}
	folder, err := openLocked(ctx, config)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	folder.lock = lock
	return folder, nil
}

func openLocked(ctx context.Context, config Config) (*Folder, error) {
	removal, err := finish(ctx, &config, func(string) {})
	if err != nil {
		return nil, err
	}
	if removal != nil {
		config.Logger.Info("finished emptying the data folder", "removed", removal.incarnation, "next", removal.next,
			"witnesses", removal.witnesses)
	}
	restored, err := readRestoration(config.Dir)
	if err != nil {
		return nil, err
	}
	marker, marked, err := readMarker(config.Dir)
	if err != nil {
		return nil, err
	}
	if !marked {
		marker = Marker{Format: markerFormat, ID: config.ID, Incarnation: 1, Cities: config.Cities.String()}
		if restored != nil {
			marker.Cities, marker.Origin = restored.Cities, restored.Origin
		}
	}
	if err := marker.check(&config); err != nil {
		return nil, err
	}
	folder := &Folder{Marker: marker}
	if err := folder.check(ctx, &config, marked); err != nil {
		return nil, err
	}
	path := filepath.Join(config.Dir, logFile)
	bolt, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	folder.Log = &Log{bolt: bolt, path: path, dir: config.Dir, fail: config.Fail, observe: config.Observe}
	if err = folder.begin(&config, marked, restored); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	return folder, nil
}

// begin writes what makes the folder this node's, and undoes what a crash has left half done.
func (f *Folder) begin(config *Config, marked bool, restored *restoration) (err error) {
	bolt, marker := f.Log.bolt, f.Marker
	if !marked && f.isSeed() { // the log that is to come follows on a snapshot of this term
		err = bolt.Set([]byte(keyTerm), sealValue([]byte(keyTerm), binary.BigEndian.AppendUint64(nil, restoredTerm)))
	}
	if !marked && err == nil {
		err = errors.Join(SyncFolder(config.Dir), writeMarker(config.Dir, marker))
	}
	if restored != nil && err == nil {
		err = restored.adopt(config.Dir, &marker)
	}
	if err == nil && marker.Incarnation == 1 && f.Fresh() && !f.isSeed() && f.Extent.Term > 0 {
		// A crash between the two writes that make a cluster: undo the first, so that both can be made.
		err = bolt.Set([]byte(keyTerm), sealValue([]byte(keyTerm), make([]byte, 8)))
	}
	if err == nil && f.Extent.stale {
		config.Logger.Warn("the end of the Raft log was never committed and contradicts the newest snapshot; it is removed",
			"first", f.Extent.First, "last", f.Extent.Last, "snapshot", f.Newest.ID)
		err = bolt.DeleteRange(f.Extent.First, f.Extent.Last)
		f.Extent.First, f.Extent.Last = 0, 0
	}
	return err
}

// Close lets go of the folder. Raft must have ended.
func (f *Folder) Close() error { return errors.Join(f.Log.bolt.Close(), f.lock.Close()) }

// lockFolder locks the folder against other processes, before anything in it is looked at: what looks like the remains of
// a crash may be the work of a node that runs. The lock ends with the process or when the file is closed.
func lockFolder(ctx context.Context, dir string) (*os.File, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", dir, err)
	}
	deadline := time.Now().Add(lockTimeout)
	for {
		err = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return folder, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		time.Sleep(lockTimeout / 20)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%w: stop that process first", ErrInUse)
	}
	return nil, errors.Join(fmt.Errorf("data folder %s: %w", dir, err), folder.Close())
}

// prepare makes the folder if need be, and makes sure that it can be written.
func prepare(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("data folder %s cannot be made: %w", dir, err)
		}
		if err := SyncFolder(filepath.Dir(dir)); err != nil {
			return fmt.Errorf("data folder %s cannot be made: %w", dir, err)
		}
	case err != nil:
		return fmt.Errorf("data folder %s: %w", dir, err)
	case !info.IsDir():
		return fmt.Errorf("data folder %s is not a folder: name another or move the file away", dir)
	}
	probe, err := os.CreateTemp(dir, probePrefix+"*")
	if err != nil {
		return fmt.Errorf("data folder %s cannot be written: %w", dir, errors.Unwrap(err))
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// check looks at what is in the folder before anything is opened for writing.
func (f *Folder) check(ctx context.Context, config *Config, marked bool) error {
	path := filepath.Join(config.Dir, logFile)
	info, err := os.Stat(path)
	present := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("raft log %s: %w", path, err)
	}
	switch {
	case present && !info.Mode().IsRegular():
		return fmt.Errorf("raft log %s is not a file: replace this node", path)
	case marked && !present:
		return fmt.Errorf("raft log %s is missing, but node %s has been here: put it back or replace this node", path, config.ID)
	case marked && info.Size() == 0:
		return fmt.Errorf("raft log %s is empty, but node %s has been here: replace this node", path, config.ID)
	}
	if err := f.checkSnapshots(config); err != nil {
		return err
	}
	after := uint64(0)
	if f.Newest != nil {
		after = f.Newest.Index
	}
	if present && info.Size() > 0 {
		if f.Extent, err = checkLog(ctx, path, f.Newest, marked); err != nil {
			return err
		}
	}
	if !marked && f.Marker.Origin != (dems.Origin{}) && !f.isSeed() {
		return fmt.Errorf("data folder %s holds something else than %s: empty it and restore the backup again", config.Dir, f.Marker.Origin)
	}
	if !marked && (!f.Fresh() || f.Extent.Term > 0 && !f.isSeed()) {
		return fmt.Errorf("data folder %s holds a Raft log or snapshots but no %s: put it back or replace this node", config.Dir, markerFile)
	}
	return f.checkWhole(path, after, marked)
}

func (f *Folder) checkSnapshots(config *Config) error {
	all, err := findSnapshots(config.Dir)
	if err != nil {
		return err
	}
	if f.Snapshots, err = openSnapshots(config.Dir, config.RaftLogger, config.Fail); err != nil {
		return err
	}
	f.Newest, err = f.Snapshots.newest(all, config.Logger)
	return err
}

// checkWhole makes sure that the log goes on where the newest snapshot ends, and that nothing was cut off. A later
// incarnation than the first learns the term before the first entry, and a crash may come between; it does not count for
// anything before it has entries.
func (f *Folder) checkWhole(path string, after uint64, marked bool) error {
	extent := &f.Extent
	switch {
	case extent.Last > after && extent.First > after+1:
		return fmt.Errorf("raft log %s begins at index %d, but the newest snapshot ends at %d: snapshots are missing: "+
			"put them back or replace this node", path, extent.First, after)
	case f.Newest != nil && extent.Term < f.Newest.Term && marked: // of a restored folder, the term comes before the marker
		return fmt.Errorf("raft log %s knows term %d, but the newest snapshot is of term %d: it is not this node's log: "+
			"replace this node", path, extent.Term, f.Newest.Term)
	case f.Marker.Incarnation == 1 && f.Fresh() && (extent.Term > 1 || extent.voted):
		return fmt.Errorf("raft log %s is empty, but this node has taken part in term %d: its log is lost: replace this node",
			path, extent.Term)
	}
	return nil
}

// openBolt opens raft.db for writing. What is wrong with it has been found before, where it could be.
func openBolt(path string) (bolt *raftboltdb.BoltStore, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = corrupt(path, cause)
		}
	}()
	bolt, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(false)})
	if err != nil {
		return nil, openError(path, err)
	}
	return bolt, nil
}
