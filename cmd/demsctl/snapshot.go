package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"dems/client"
)

const (
	// backupTimeout is what --timeout is for a backup unless it is given: nodes look at their whole state before they send it.
	backupTimeout = time.Minute
	// progressInterval is how often a terminal is told how much has come.
	progressInterval = 200 * time.Millisecond
)

func (p *program) snapshotCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "snapshot",
		Short: "Save a backup, or check one",
		Example: `  demsctl snapshot save tonight.backup
  demsctl snapshot verify tonight.backup`,
		Args: cobra.NoArgs,
		RunE: needsCommand,
	}
	command.AddCommand(p.snapshotSaveCommand(), p.snapshotVerifyCommand())
	return command
}

func (p *program) snapshotSaveCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "save FILE",
		Short: "Save a backup whose digest a majority of the nodes confirms",
		Long: `Save a backup: events, bookings, idempotency keys and what the cluster knows of itself, and the city logs, as of one moment,
with everything that was acknowledged before. The cluster goes on meanwhile. FILE is there when all of it has come, was checked
against the digest that a majority of the nodes has confirmed, and is on the disk; if anything fails before, or it is interrupted,
nothing is left. demsd restore makes a new cluster from it. --timeout (default here 1m) is how long nothing may come.`,
		Example: `  demsctl snapshot save tonight.backup
  demsctl snapshot save --force latest.backup -o json`,
		Args: cobra.ExactArgs(1),
	}
	force := command.Flags().Bool("force", false, "replace FILE if it is there, once the new backup is whole")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		if !command.Flags().Changed("timeout") {
			p.timeout = backupTimeout
		}
		api, err := p.connect()
		if err != nil {
			return err
		}
		meter := &meter{program: p}
		view, err := api.SaveBackup(command.Context(), arguments[0], client.SaveOptions{Overwrite: *force, Progress: meter.show})
		meter.end()
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there already: choose another name, or replace it with --force", arguments[0])
		}
		if err != nil {
			return err
		}
		return p.emitBackup(arguments[0], view)
	}
	return command
}

func (p *program) snapshotVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Check a backup, without a cluster",
		Long: `Check all of a backup: every checksum, that the digest formed from its records is the one that it carries, and that the city
logs are the ones that its state knows of. It asks no front end. That a majority of the nodes had that state was made sure of
when it was saved. It ends with status 2 where the file is damaged or is no backup.`,
		Example: `  demsctl snapshot verify tonight.backup
  demsctl snapshot verify tonight.backup -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, arguments []string) error {
			view, err := client.VerifyBackup(arguments[0])
			if err != nil {
				return err
			}
			return p.emitBackup(arguments[0], view)
		},
	}
}

// emitBackup tells what a backup is of.
func (p *program) emitBackup(path string, view *client.BackupView) error {
	records := make(map[string]uint64, len(view.Cities))
	for i, named := range view.Cities {
		records[named.City.String()] = view.Records[i]
	}
	votes := ""
	if view.Asked > 0 {
		votes = fmt.Sprintf("%d/%d", view.Agreeing, view.Asked)
	}
	body, err := json.Marshal(struct {
		File     string            `json:"file"`
		Sequence uint64            `json:"sequence"`
		Digest   string            `json:"digest"`
		Bytes    int64             `json:"bytes"`
		Votes    string            `json:"votes,omitempty"`
		Cities   string            `json:"cities"`
		Records  map[string]uint64 `json:"records"` // of the city logs
	}{path, view.Origin.Index, view.Origin.Digest.String(), view.Bytes, votes, view.Cities.String(), records})
	if err != nil {
		return err
	}
	return p.emit(body, func(page *page) {
		head, row := []string{"FILE", "SEQUENCE", "DIGEST", "BYTES"}, cells(path, view.Origin.Index, view.Origin.Digest, view.Bytes)
		if votes != "" {
			head, row = append(head, "VOTES"), append(row, cell{text: votes})
		}
		page.table(head, [][]cell{row})
	})
}

// meter shows on a terminal how much of a backup has come.
type meter struct {
	program *program
	last    time.Time
	shown   bool
}

func (m *meter) show(bytes int64) {
	if now := time.Now(); m.program.chatty && now.Sub(m.last) >= progressInterval {
		m.last, m.shown = now, true
		fmt.Fprintf(m.program.stderr, "\rdemsctl: %.1f MiB", float64(bytes)/(1<<20))
	}
}

// end leaves a line of its own to what comes.
func (m *meter) end() {
	if m.shown {
		fmt.Fprintln(m.program.stderr)
	}
}
