package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	snapshotFolder  = "snapshots"
	retainSnapshots = 2 // the older one costs disk space only and may help an expert
)

// Snapshots keeps the snapshots in DIR/snapshots. It implements raft.SnapshotStore.
type Snapshots struct {
	store *raft.FileSnapshotStore
	dir   string // of the node
	fail  func(error)
}

// SnapshotReader reads a snapshot and knows which.
type SnapshotReader struct {
	io.ReadCloser
	Meta *raft.SnapshotMeta
}

func openSnapshots(dir string, logger hclog.Logger, fail func(error)) (*Snapshots, error) {
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots, logger)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", dir, err)
	}
	return &Snapshots{store: store, dir: dir, fail: fail}, nil
}

// Create implements raft.SnapshotStore.
func (s *Snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, transport raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := s.store.Create(version, index, term, configuration, configurationIndex, transport)
	if err != nil {
		s.fail(WriteError("snapshot", s.dir, err))
		return nil, err
	}
	return &snapshotSink{sink, s}, nil
}

// List implements raft.SnapshotStore.
func (s *Snapshots) List() ([]*raft.SnapshotMeta, error) { return s.store.List() }

// Open implements raft.SnapshotStore. The reader is a *SnapshotReader.
func (s *Snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, reader, err := s.store.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, &SnapshotReader{reader, meta}, nil
}

// Remove deletes a snapshot that turned out to be unusable, so that it does not stand in the way of the next start.
func (s *Snapshots) Remove(id string) error {
	folder := filepath.Join(s.dir, snapshotFolder)
	if err := os.RemoveAll(filepath.Join(folder, id)); err != nil {
		return err
	}
	return SyncFolder(folder)
}

// snapshotSink reports writes that fail.
type snapshotSink struct {
	raft.SnapshotSink
	snapshots *Snapshots
}

// Write implements io.Writer.
func (s *snapshotSink) Write(data []byte) (int, error) {
	n, err := s.SnapshotSink.Write(data)
	return n, s.report(err)
}

// Close implements io.Closer.
func (s *snapshotSink) Close() error { return s.report(s.SnapshotSink.Close()) }

func (s *snapshotSink) report(err error) error {
	if err != nil {
		s.snapshots.fail(WriteError("snapshot", s.snapshots.dir, err))
	}
	return err
}

// found is a snapshot folder, by its name: term-index-milliseconds.
type found struct {
	id          string
	term, index uint64
}

// findSnapshots lists the complete snapshots of a data folder, newest first, by their names alone, and removes what
// unfinished ones left behind.
func findSnapshots(dir string) ([]found, error) {
	folder := filepath.Join(dir, snapshotFolder)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", dir, err)
	}
	var all []found
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if strings.HasSuffix(entry.Name(), ".tmp") {
			if err := os.RemoveAll(filepath.Join(folder, entry.Name())); err != nil {
				return nil, fmt.Errorf("data folder %s: %w", dir, err)
			}
			continue
		}
		snapshot := found{id: entry.Name()}
		_, err := fmt.Sscanf(snapshot.id, "%d-%d-", &snapshot.term, &snapshot.index)
		if err != nil {
			return nil, fmt.Errorf("%s is no snapshot: move it away", filepath.Join(folder, snapshot.id))
		}
		all = append(all, snapshot)
	}
	slices.SortFunc(all, func(a, b found) int {
		return -cmp.Or(cmp.Compare(a.term, b.term), cmp.Compare(a.index, b.index), cmp.Compare(a.id, b.id))
	})
	return all, nil
}

// newest checks all snapshots against their checksums and returns the newest, nil if there is none. Raft would
// fall back to an older one, whose successors in the log may be gone.
func (s *Snapshots) newest(all []found, logger *slog.Logger) (*raft.SnapshotMeta, error) {
	var newest *raft.SnapshotMeta
	for i, snapshot := range all {
		meta, reader, err := s.store.Open(snapshot.id)
		if err == nil {
			err = reader.Close()
		}
		if err == nil && (meta.Index != snapshot.index || meta.Term != snapshot.term || meta.ID != snapshot.id) {
			err = errors.New("its meta.json is another snapshot's")
		}
		path := filepath.Join(s.dir, snapshotFolder, snapshot.id)
		switch {
		case err != nil && i == 0:
			return nil, fmt.Errorf("snapshot %s is damaged: %w: replace this node", path, err)
		case err != nil:
			logger.Warn("an older snapshot is damaged; it is not needed", "path", path, "error", err)
		case i == 0:
			newest = meta
		}
	}
	if listed, err := s.store.List(); err != nil {
		return nil, fmt.Errorf("data folder %s: %w", s.dir, err)
	} else if newest != nil && (len(listed) == 0 || listed[0].ID != newest.ID) {
		return nil, fmt.Errorf("snapshot %s cannot be listed: replace this node", newest.ID)
	}
	return newest, nil
}
