package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// CityLogFolder is the folder of a data folder that holds the city logs.
const CityLogFolder = "logs"

// Steps are the steps of Empty, in order, as its failpoint is told of them.
var Steps = []string{"empty-proof", "empty-log", "empty-snapshots", "empty-city-logs", "empty-marker", "empty-done"}

// Empty deletes what an incarnation that was removed has left in a data folder, its log, terms and votes, snapshots and
// city logs, and makes it the folder of the next incarnation, which has no past. A folder without a past is only given to
// the next incarnation. Everything else in the folder stays.
//
// The proof has to be of the very incarnation whose folder it is; otherwise nothing is changed. It is written into the
// folder first, so that Open finishes what a crash interrupts. The folder must not be open, here or in another process.
// The failpoint, which may be nil, is called after each of Steps.
func Empty(ctx context.Context, config Config, removal *Removal, failpoint func(step string)) (err error) {
	if failpoint == nil {
		failpoint = func(string) {}
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if removal == nil {
		return errors.New("nothing is deleted without the proof of a removal")
	}
	if err := removal.check(); err != nil {
		return fmt.Errorf("nothing is deleted: %w", err)
	}
	if err := prepare(config.Dir); err != nil {
		return err
	}
	lock, err := lockFolder(ctx, config.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	done, err := finish(ctx, &config, failpoint)
	if err != nil {
		return err
	}
	if done != nil && done.id == removal.id && done.next == removal.next {
		return nil // the same, begun before
	}
	next, err := whose(ctx, &config, removal)
	if err == nil && next {
		err = fmt.Errorf("data folder %s is that of incarnation %d already", config.Dir, removal.next)
	}
	if err == nil {
		err = checkOrigin(ctx, &config, removal)
	}
	if err != nil {
		return fmt.Errorf("nothing is deleted: %w", err)
	}
	data, err := removal.encode()
	if err == nil {
		err = replaceFile(config.Dir, removalFile, data)
	}
	if err != nil {
		return err
	}
	failpoint("empty-proof")
	_, err = finish(ctx, &config, failpoint)
	return err
}

// whose makes sure that a data folder is that of the incarnation that was removed, or has no past. It returns true if it
// is that of the next one already.
func whose(ctx context.Context, config *Config, removal *Removal) (next bool, err error) {
	if removal.id != config.ID {
		return false, fmt.Errorf("node %s was removed, and this is node %s", removal.id, config.ID)
	}
	marker, marked, err := readMarker(config.Dir)
	if err != nil {
		return false, err
	}
	if !marked { // of which incarnation what is there would be, nobody knows
		return false, (&Folder{}).check(ctx, config, false)
	}
	if err := marker.check(config); err != nil {
		return false, err
	}
	if marker.Incarnation != removal.incarnation && marker.Incarnation != removal.next {
		return false, fmt.Errorf("incarnation %d was removed, but data folder %s is that of incarnation %d", removal.incarnation,
			config.Dir, marker.Incarnation)
	}
	return marker.Incarnation == removal.next, nil
}

// checkOrigin makes sure that a folder with a past belongs to the cluster that removed the node, and not to one of the same names
// that was restored from another backup.
func checkOrigin(ctx context.Context, config *Config, removal *Removal) error {
	marker, marked, err := readMarker(config.Dir)
	if err != nil || !marked || marker.Origin == removal.origin {
		return err
	}
	folder := Folder{Marker: marker}
	if err := folder.check(ctx, config, true); err != nil {
		return err
	}
	if !folder.Fresh() || folder.isSeed() {
		return fmt.Errorf("the cluster that removed it comes from %s, and data folder %s from %s", removal.origin, config.Dir, marker.Origin)
	}
	return nil
}

// finish empties a data folder in which removal.json says that this was begun, and returns the proof, nil if there is
// none. The folder is locked. A step that was done before is done again without harm, but nothing is deleted any more once
// node.json names the next incarnation: from then on it is the next one's folder.
func finish(ctx context.Context, config *Config, failpoint func(step string)) (*Removal, error) {
	path := filepath.Join(config.Dir, removalFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", config.Dir, err)
	}
	removal, err := decodeRemoval(data)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged (%w), so nothing is deleted: %s", path, err, moveAway)
	}
	next, err := whose(ctx, config, removal)
	if err != nil {
		return nil, fmt.Errorf("%s does not belong here, so nothing is deleted: %w: %s", path, err, moveAway)
	}
	if !next {
		if err := deleteAll(config, failpoint); err != nil {
			return nil, WriteError("an emptied data folder", config.Dir, err)
		}
		marker := Marker{
			Format: markerFormat, ID: config.ID, Incarnation: removal.next, Cities: config.Cities.String(), Origin: removal.origin,
		}
		if err := writeMarker(config.Dir, marker); err != nil {
			return nil, err
		}
	}
	failpoint("empty-marker")
	if err := errors.Join(os.Remove(path), SyncFolder(config.Dir)); err != nil {
		return nil, WriteError("an emptied data folder", config.Dir, err)
	}
	failpoint("empty-done")
	return removal, nil
}

// moveAway says what to do about a removal.json that cannot be used.
const moveAway = "move the file away and start the node again; where that fails, replace this node"

// deleteAll deletes what an incarnation has left and makes an empty raft.db: a node.json says that there is one. All of it
// is durable when it returns, so that nothing of it can come back in the next incarnation's life.
func deleteAll(config *Config, failpoint func(step string)) error {
	path := filepath.Join(config.Dir, logFile)
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	failpoint("empty-log")
	if err := deleteContent(filepath.Join(config.Dir, snapshotFolder)); err != nil {
		return err
	}
	failpoint("empty-snapshots")
	if err := deleteContent(filepath.Join(config.Dir, CityLogFolder)); err != nil {
		return err
	}
	failpoint("empty-city-logs")
	bolt, err := openBolt(path)
	if err != nil {
		return err
	}
	return errors.Join(bolt.Close(), SyncFolder(config.Dir))
}

// deleteContent deletes what is in a folder, if there is one. The folder itself stays: another disk may be mounted there.
func deleteContent(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	if err != nil {
		return err
	}
	return SyncFolder(dir)
}
