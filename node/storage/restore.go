package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dems"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// A data folder that is restored from a backup belongs to nobody yet: it has the state, the city logs and restored.json, which
// says of which backup. The first node that opens it makes it its own. While it is being filled, the file is called
// restoring.json, so that what a crash leaves is never taken for a whole folder.
const (
	restoringFile     = "restoring.json"
	restoredFile      = "restored.json"
	restorationFormat = 1
	restoredTerm      = 1 // in which a restored log begins, as a new one does
)

// restoration is the content of restored.json.
type restoration struct {
	Format int         `json:"format"`
	Origin dems.Origin `json:"origin"`
	Cities string      `json:"cities"`
}

func (r *restoration) encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return append(data, '\n'), err
}

// readRestoration reads restored.json, nil if there is none. A folder that was not filled to its end is an error.
func readRestoration(dir string) (*restoration, error) {
	if _, err := os.Lstat(filepath.Join(dir, restoringFile)); err == nil {
		return nil, fmt.Errorf("data folder %s: restoring a backup into it was interrupted: restore it again", dir)
	}
	path := filepath.Join(dir, restoredFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", dir, err)
	}
	r := new(restoration)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): empty the folder and restore the backup again", path, err)
	}
	if again, err := r.encode(); err != nil || !bytes.Equal(again, data) || r.Format != restorationFormat || r.Origin.Index == 0 {
		return nil, fmt.Errorf("%s is damaged, or of another version of this program: empty the folder and restore the backup again", path)
	}
	return r, nil
}

// Restoration is a data folder that is being filled from a backup. It is not safe for concurrent use.
type Restoration struct {
	dir    string
	origin dems.Origin
	store  *raft.FileSnapshotStore
	lock   *os.File
}

// BeginRestore makes a data folder that is filled from a backup. It must be empty or not be there at all, or hold what an
// interrupted restoration has left, which is deleted. Finish or Abort ends it.
func BeginRestore(ctx context.Context, dir string, origin dems.Origin, cities dems.Cities) (*Restoration, error) {
	if err := prepare(dir); err != nil {
		return nil, err
	}
	lock, err := lockFolder(ctx, dir)
	if err != nil {
		return nil, err
	}
	r := &Restoration{dir: dir, origin: origin, lock: lock}
	if err = checkEmpty(dir); err == nil {
		err = r.begin(cities)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return r, nil
}

// begin marks the folder and makes room for what comes.
func (r *Restoration) begin(cities dems.Cities) error {
	data, err := (&restoration{restorationFormat, r.origin, cities.String()}).encode()
	if err == nil {
		err = replaceFile(r.dir, restoringFile, data)
	}
	if err == nil {
		err = r.deleteContent()
	}
	if err == nil {
		r.store, err = raft.NewFileSnapshotStoreWithLogger(r.dir, 1, hclog.NewNullLogger())
	}
	if err != nil {
		return fmt.Errorf("restore into data folder %s: %w", r.dir, err)
	}
	return nil
}

// resetKeyFile is made by a node before it opens its folder, also by one that then refuses to, because a restoration was
// interrupted. It belongs to no state, and the node that starts next keeps it.
const resetKeyFile = "stateless-reset.key"

// checkEmpty makes sure that a folder holds nothing but what an interrupted restoration has left, and a node that was started in
// between.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data folder %s: %w", dir, err)
	}
	_, interrupted := os.Lstat(filepath.Join(dir, restoringFile))
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == "lost+found":
		case name == restoringFile+".tmp", strings.HasPrefix(name, probePrefix):
			// Left by a restoration that was interrupted before it wrote anything else.
		case interrupted == nil && (name == restoringFile || name == snapshotFolder || name == CityLogFolder):
		case interrupted == nil && name == resetKeyFile:
		default:
			return fmt.Errorf("data folder %s is not empty (it holds %s): a backup is restored into an empty folder only", dir, name)
		}
	}
	return nil
}

// deleteContent deletes what a restoration fills a folder with.
func (r *Restoration) deleteContent() error {
	return errors.Join(os.RemoveAll(filepath.Join(r.dir, snapshotFolder)), os.RemoveAll(filepath.Join(r.dir, CityLogFolder)))
}

// State writes the state, which write gives.
func (r *Restoration) State(write func(io.Writer) error) error {
	sink, err := r.store.Create(raft.SnapshotVersionMax, r.origin.Index, restoredTerm, raft.Configuration{}, 0, nil)
	if err == nil {
		if err = write(sink); err == nil {
			err = sink.Close()
		} else {
			err = errors.Join(err, sink.Cancel())
		}
	}
	if err != nil {
		return fmt.Errorf("restore into data folder %s: %w", r.dir, err)
	}
	return nil
}

// CityLogs returns the folder of the city logs, which whoever makes it fills and makes durable.
func (r *Restoration) CityLogs() string { return filepath.Join(r.dir, CityLogFolder) }

// Finish makes what was written a data folder that a node can be started with. After an error the folder holds nothing that a
// node starts with, or everything.
func (r *Restoration) Finish() error {
	err := SyncFolder(r.dir)
	if err == nil {
		err = os.Rename(filepath.Join(r.dir, restoringFile), filepath.Join(r.dir, restoredFile))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("restore into data folder %s: %w", r.dir, err), r.Abort())
	}
	return errors.Join(SyncFolder(r.dir), r.lock.Close())
}

// Abort deletes what was written. The folder itself stays.
func (r *Restoration) Abort() error {
	err := r.deleteContent()
	if err == nil {
		err = os.Remove(filepath.Join(r.dir, restoringFile))
	}
	return errors.Join(err, SyncFolder(r.dir), r.lock.Close())
}

// adopt makes sure that what restored.json says is what the folder's own marker says, and deletes the file. A crash may have
// come between the two.
func (r *restoration) adopt(dir string, marker *Marker) error {
	if marker.Origin != r.Origin || marker.Incarnation != 1 {
		return fmt.Errorf("data folder %s holds %s, but %s says that it was restored from %s: replace this node", dir,
			marker.Origin, restoredFile, r.Origin)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, restoredFile)), SyncFolder(dir)); err != nil {
		return WriteError("a restored data folder", dir, err)
	}
	return nil
}

// isSeed tells whether the folder holds nothing but what a backup was restored to: this incarnation has not begun its log.
func (f *Folder) isSeed() bool {
	return f.Marker.Origin != dems.Origin{} && f.Marker.Incarnation == 1 && f.Extent.Last == 0 && f.Newest != nil &&
		f.Newest.Index == f.Marker.Origin.Index
}

// Descend begins the log of a cluster that was restored from a backup. It follows on the state: an entry that lets go of the old
// cluster, and the configuration of the new one. Nodes that were restored from the same backup, and are given the same
// configuration, write the same. Like all that writes to the log, it ends the goroutine where that fails.
func (f *Folder) Descend(configuration raft.Configuration) error {
	if !f.isSeed() {
		return errors.New("the data folder has not been restored from a backup, or has been used since")
	}
	// A crash after this one leaves a folder that is still a seed.
	if err := f.Snapshots.configure(f.Newest.ID, configuration); err != nil {
		return err
	}
	origin := f.Marker.Origin
	first := dems.AppendEntry(nil, &dems.Entry{Kind: dems.RestoreEntry, Origin: origin})
	return f.Log.StoreLogs([]*raft.Log{
		{Index: origin.Index + 1, Term: restoredTerm, Type: raft.LogCommand, Data: first},
		{Index: origin.Index + 2, Term: restoredTerm, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(configuration)},
	})
}

// configure writes a configuration into the description of a snapshot that has none. Whoever is sent the snapshot learns by it
// whom to ask whether it is right. The index is one before that of any entry, as in a snapshot of hashicorp/raft's own
// RecoverCluster.
func (s *Snapshots) configure(id string, configuration raft.Configuration) error {
	dir := filepath.Join(s.dir, snapshotFolder, id)
	data, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return err
	}
	var meta struct {
		raft.SnapshotMeta
		CRC []byte
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return err
	}
	meta.Configuration, meta.ConfigurationIndex = configuration, 1
	if data, err = json.Marshal(&meta); err != nil {
		return err
	}
	return replaceFile(dir, "meta.json", data)
}
