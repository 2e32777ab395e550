package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dems/client/drill/history"
	"dems/client/drill/linearizability"
	"dems/client/drill/report"
)

// The files that a drill keeps.
const (
	HistoryFile = "history.jsonl"
	jsonFile    = "report.json"
	pageFile    = "report.html"
	// violationFile is named after the group whose history nothing explains. At most mostViolations are kept.
	violationFile  = "violation-group-%d.html"
	mostViolations = 3
)

// keeper writes the files of a drill into a folder. That of no folder writes nothing.
type keeper struct {
	folder string
	made   bool     // the folder was not there before
	kept   []string // names of the files besides those that are always there
}

// newKeeper returns a keeper for a folder, which it makes unless it is there and empty.
func newKeeper(folder string) (*keeper, error) {
	if folder == "" {
		return &keeper{}, nil
	}
	entries, err := os.ReadDir(folder)
	made := errors.Is(err, os.ErrNotExist)
	switch {
	case made:
		err = os.MkdirAll(folder, 0o755)
	case err == nil && len(entries) > 0:
		err = fmt.Errorf("it has %s in it already", entries[0].Name())
	}
	if err != nil {
		return nil, fmt.Errorf("nothing can be kept in %s (%w); name another folder with --keep", folder, err)
	}
	return &keeper{folder: folder, made: made}, nil
}

// abandon removes the folder again.
func (k *keeper) abandon() error {
	if !k.made {
		return nil
	}
	return os.Remove(k.folder)
}

// names returns where the files are.
func (k *keeper) names() []string {
	if k.folder == "" {
		return nil
	}
	var names []string
	for _, name := range append([]string{HistoryFile, jsonFile, pageFile}, k.kept...) {
		names = append(names, filepath.Join(k.folder, name))
	}
	return names
}

// history writes the history.
func (k *keeper) history(header history.Header, operations []history.Operation) error {
	return k.write(HistoryFile, func(w io.Writer) error { return history.Write(w, header, operations) })
}

// violations writes pages that show the first histories that nothing explains, as far as it was found out which part of them that
// is.
func (k *keeper) violations(ctx context.Context, violations []linearizability.Violation) error {
	var all []error
	for _, violation := range violations[:min(len(violations), mostViolations)] {
		if len(violation.Operations) == 0 {
			continue
		}
		name := fmt.Sprintf(violationFile, violation.Group)
		all = append(all, k.write(name, func(w io.Writer) error { return violation.WriteHTML(ctx, w) }))
		k.kept = append(k.kept, name)
	}
	return errors.Join(all...)
}

// report writes the report in both forms.
func (k *keeper) report(r *report.Report) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", jsonFile, err)
	}
	return errors.Join(
		k.write(jsonFile, func(w io.Writer) error { _, err := w.Write(append(text, '\n')); return err }),
		k.write(pageFile, func(w io.Writer) error { return report.Page(w, r) }))
}

// write writes one file.
func (k *keeper) write(name string, fill func(io.Writer) error) error {
	if k.folder == "" {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(k.folder, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(file), file.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
