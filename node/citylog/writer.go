package citylog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"dems"
	"dems/node/storage"
)

// Writer writes the log of a city from its first record on, where there is none yet: what a backup holds of it. It is not safe
// for concurrent use.
type Writer struct{ log *log }

// Create begins a city's log in a folder, which is made if it is not there.
func Create(dir string, city dems.City) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("city log: %w", err)
	}
	path := filepath.Join(dir, city.String()+".log")
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("city log %s is there already", path)
	}
	log, err := openLog(dir, city)
	if err != nil {
		return nil, fmt.Errorf("city log: %w", err)
	}
	return &Writer{log}, nil
}

// Append adds whole lines, which must be ordered records.
func (w *Writer) Append(lines []byte) error {
	for len(lines) > 0 {
		line := lines[:bytes.IndexByte(lines, '\n')+1]
		if !valid(line) || !Ordered(line) {
			return fmt.Errorf("city log: record %d of %s is malformed", w.log.end.records, w.log.city)
		}
		if err := w.log.append(line); err != nil {
			return fmt.Errorf("city log: %w", err)
		}
		lines = lines[len(line):]
	}
	return nil
}

// Close makes the log durable and closes it.
func (w *Writer) Close() error {
	err := errors.Join(w.log.sync(), w.log.close(), storage.SyncFolder(filepath.Dir(w.log.path)))
	if err != nil {
		return fmt.Errorf("city log: %w", err)
	}
	return nil
}
