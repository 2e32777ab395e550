package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dems"
)

const (
	markerFile   = "node.json"
	markerFormat = 1
)

// Marker is the content of node.json: whose data folder this is. It is written once in each incarnation's life, after an
// empty raft.db and before the first Raft write.
type Marker struct {
	Format      int         `json:"format"`
	ID          dems.NodeID `json:"id"`
	Incarnation uint64      `json:"incarnation"` // grows each time the node is emptied and added again
	Cities      string      `json:"cities"`      // as dems.Cities.String; the state cannot be read with others
	// Origin is the backup that the cluster was restored from. Nodes of clusters with different ones have nothing to say to each
	// other.
	Origin dems.Origin `json:"origin,omitzero"`
}

// readMarker returns the marker of a data folder; found is false if there is none.
func readMarker(dir string) (marker Marker, found bool, err error) {
	path := filepath.Join(dir, markerFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Marker{}, false, nil
	}
	if err != nil {
		return Marker{}, false, fmt.Errorf("data folder %s: %w", dir, err)
	}
	if err := json.Unmarshal(data, &marker); err != nil {
		return Marker{}, false, fmt.Errorf("%s is damaged (%v): replace this node", path, err)
	}
	return marker, true, nil
}

// check compares the marker with how the node was started.
func (m *Marker) check(config *Config) error {
	switch {
	case m.Format != markerFormat:
		return fmt.Errorf("data folder %s has format %d and this program knows format %d: use the program that wrote it",
			config.Dir, m.Format, markerFormat)
	case m.ID != config.ID:
		return fmt.Errorf("data folder %s belongs to node %s, not to %s: give every node a data folder of its own",
			config.Dir, m.ID, config.ID)
	case m.Incarnation == 0:
		return fmt.Errorf("%s is damaged (no incarnation): replace this node", filepath.Join(config.Dir, markerFile))
	case m.Cities != config.Cities.String():
		return fmt.Errorf("data folder %s was made for the cities %s, but the node was started with %s: "+
			"the cities of a cluster do not change", config.Dir, m.Cities, config.Cities)
	}
	return nil
}

// writeMarker writes node.json.
func writeMarker(dir string, marker Marker) error {
	data, err := json.MarshalIndent(marker, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(dir, markerFile, append(data, '\n'))
}

// replaceFile writes a file of a data folder so that after a power loss either all of it is there or what was there before.
func replaceFile(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	if err := writeSynced(path+".tmp", data); err != nil {
		return WriteError(name, dir, err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return WriteError(name, dir, err)
	}
	if err := SyncFolder(dir); err != nil {
		return WriteError(name, dir, err)
	}
	return nil
}

func writeSynced(path string, data []byte) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(data); err != nil {
		return err
	}
	return file.Sync()
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
