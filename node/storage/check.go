package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"dems"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// lockTimeout is how long a start waits for another process to let go of raft.db, for example one that is just ending.
const lockTimeout = time.Second

// Extent is what a Raft log holds.
type Extent struct {
	First, Last uint64 // indexes; 0 if the log is empty
	// LastCommand is the index of the last entry after the newest snapshot that the state machine applies; 0 if none.
	LastCommand uint64
	// Configuration is the newest in the log after the snapshot, if ConfigurationIndex is not 0. It may be uncommitted.
	Configuration      raft.Configuration
	ConfigurationIndex uint64
	Term               uint64
	voted              bool
	stale              bool // the log contradicts the newest snapshot; nothing of it counts
}

func boltOptions(readOnly bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, ReadOnly: readOnly,
	}
}

// checkLog reads raft.db without changing it: its structure as a whole, and every entry after the newest snapshot (nil:
// there is none), which is what the node is going to apply. It comes before bbolt opens the file for writing, because that walks the
// file's pages on another goroutine, where damage cannot be caught. Only a folder without node.json may have a file whose
// making was interrupted.
func checkLog(ctx context.Context, path string, newest *raft.SnapshotMeta, marked bool) (extent Extent, err error) {
	// Damage in a mapped file shows as a panic of bbolt or as a memory fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = corrupt(path, cause)
		}
	}()
	if err := checkMeta(path); err != nil {
		return Extent{}, corrupt(path, err)
	}
	if made, err := checkStructure(path); err != nil || !made && !marked {
		return Extent{}, err
	} else if !made {
		return Extent{}, corrupt(path, "parts are missing")
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(true)})
	if err != nil {
		return Extent{}, openError(path, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return readLog(ctx, store, path, newest)
}

// openError tells what opening raft.db failed of.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("data folder of %s: %w: stop that process first", path, ErrInUse)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum),
		errors.Is(err, bolterrors.ErrVersionMismatch):
		return corrupt(path, err)
	}
	return fmt.Errorf("open raft log %s: %w", path, err)
}

// checkStructure walks all pages and keys. It returns false for a file whose making was interrupted by a crash.
func checkStructure(path string) (made bool, err error) {
	db, err := bbolt.Open(path, 0o600, boltOptions(true))
	if err != nil {
		return false, openError(path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) error {
		for _, name := range []string{"logs", "conf"} {
			bucket := tx.Bucket([]byte(name))
			if bucket == nil {
				return nil
			}
			last, cursor := uint64(0), bucket.Cursor()
			for key, _ := cursor.First(); key != nil; key, _ = cursor.Next() {
				if name == "conf" {
					if text := string(key); text != keyTerm && text != keyVoteTerm && text != keyVote {
						return corrupt(path, fmt.Sprintf("it holds %q", text))
					}
					continue
				}
				if len(key) != 8 || binary.BigEndian.Uint64(key) <= last {
					return corrupt(path, "its indexes are out of order")
				}
				last = binary.BigEndian.Uint64(key)
			}
		}
		made = true
		return nil
	})
	return made, err
}

// readStable reads what Raft remembers beside its log, and checks all of it.
func (e *Extent) readStable(store *raftboltdb.BoltStore) error {
	for _, key := range []string{keyTerm, keyVoteTerm, keyVote} {
		sealed, err := store.Get([]byte(key))
		if errors.Is(err, raftboltdb.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		value, err := openValue([]byte(key), sealed)
		if err != nil {
			return err
		}
		if key == keyTerm {
			e.Term = binary.BigEndian.Uint64(value)
		} else {
			e.voted = true
		}
	}
	return nil
}

// readLog checks every entry after the newest snapshot.
func readLog(ctx context.Context, store *raftboltdb.BoltStore, path string, newest *raft.SnapshotMeta) (Extent, error) {
	var extent Extent
	var err error
	after := uint64(0)
	if extent.First, err = store.FirstIndex(); err != nil {
		return Extent{}, corrupt(path, err)
	}
	if extent.Last, err = store.LastIndex(); err != nil {
		return Extent{}, corrupt(path, err)
	}
	if err := extent.readStable(store); err != nil {
		return Extent{}, corrupt(path, err)
	}
	if extent.Last > 0 && extent.Term == 0 {
		return Extent{}, corrupt(path, "it has entries but no term")
	}
	if newest != nil {
		after = newest.Index
		if extent.stale, err = contradicts(store, newest); err != nil {
			return Extent{}, corruptAt(path, after, err)
		}
		if extent.stale {
			return extent, nil
		}
	}
	for index := max(extent.First, after+1); index <= extent.Last; index++ {
		if err := ctx.Err(); err != nil {
			return Extent{}, err
		}
		if extent.Last == 0 {
			break
		}
		var entry raft.Log
		if err := store.GetLog(index, &entry); err != nil {
			return Extent{}, corruptAt(path, index, err)
		}
		if err := open(&entry, index); err != nil {
			return Extent{}, corruptAt(path, index, err)
		}
		switch entry.Type {
		case raft.LogCommand:
			if _, err := dems.DecodeEntry(entry.Data); err != nil {
				return Extent{}, corruptAt(path, index, err)
			}
			extent.LastCommand = index
		case raft.LogConfiguration:
			extent.Configuration, extent.ConfigurationIndex = raft.DecodeConfiguration(entry.Data), index
		}
	}
	return extent, nil
}

// contradicts tells whether a log holds, at the end of a snapshot, an entry of another term. What the snapshot holds is
// committed, so that entry never was, nor was any after it: the node had taken them from a leader that was replaced, and
// then was sent the snapshot. hashicorp/raft keeps them. With them it refuses what follows on the snapshot and, worse, judges
// candidates by its old term and elects one that lacks what the snapshot holds.
func contradicts(store raft.LogStore, snapshot *raft.SnapshotMeta) (bool, error) {
	var entry raft.Log
	err := store.GetLog(snapshot.Index, &entry)
	if errors.Is(err, raft.ErrLogNotFound) {
		return false, nil
	}
	if err == nil {
		err = open(&entry, snapshot.Index)
	}
	return err == nil && entry.Term != snapshot.Term, err
}
