package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dems"
	"dems/node"
)

// restoringFile marks the folder of a development cluster while a backup is being restored into it.
const restoringFile = "restoring"

type restoreFlags struct {
	from, dataDir, cities string
	dev                   bool
	nodes                 int
}

func newRestoreCommand() *cobra.Command {
	var flags restoreFlags
	command := &cobra.Command{
		Use:   "restore",
		Short: "Make a data folder of a new cluster from a backup",
		Long: `restore makes a data folder from a backup that demsctl snapshot save has saved. Run it for every node of the new cluster, on
its machine or elsewhere, each time with the same backup and a folder of its own; then start the nodes as those of any new
cluster. They may be more or fewer than those of the old one, with any IDs. A node whose folder comes from another backup, or
from none, is refused.

Everything in the backup is checked before anything is written. The folder must be empty or not exist; if this is interrupted,
run it again. With --dev it makes the folder of a whole development cluster.

Events, bookings, idempotency keys, incidents and city logs are as they were. The new cluster has its own nodes, front ends and
sessions.`,
		Example: `  demsd restore --from tonight.backup --data-dir /var/lib/dems
  demsd restore --from tonight.backup --data-dir dems-data --dev && demsd dev`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			return restore(command.Context(), &flags, command.Flags().Changed("nodes"), command.OutOrStdout())
		},
	}
	set := command.Flags()
	set.StringVar(&flags.from, "from", "", "the backup (required)")
	set.StringVar(&flags.dataDir, "data-dir", "", "the folder to make: that of one node, or with --dev of a whole cluster (required)")
	set.StringVar(&flags.cities, "cities", "", "refuse a backup of a cluster with other cities (default: take those of the backup)")
	set.BoolVar(&flags.dev, "dev", false, "make the folder of a development cluster, for demsd dev")
	set.IntVar(&flags.nodes, "nodes", 3, "with --dev: how many nodes, 1 to 9")
	return command
}

func (f *restoreFlags) check(nodesGiven bool) (dems.Cities, error) {
	for name, value := range map[string]string{"--from": f.from, "--data-dir": f.dataDir} {
		if value == "" {
			return nil, usageError{fmt.Errorf("%s is required", name)}
		}
	}
	switch {
	case f.nodes < 1 || f.nodes > 9:
		return nil, usageError{fmt.Errorf("--nodes %d: use 1 to 9", f.nodes)}
	case nodesGiven && !f.dev:
		return nil, usageError{errors.New("--nodes is for --dev; a data folder is that of one node")}
	case f.cities == "":
		return nil, nil
	}
	cities, err := dems.ParseCities(f.cities)
	if err != nil {
		return nil, usageError{fmt.Errorf("--cities: %w", err)}
	}
	return cities, nil
}

func restore(ctx context.Context, flags *restoreFlags, nodesGiven bool, stdout io.Writer) error {
	cities, err := flags.check(nodesGiven)
	if err != nil {
		return err
	}
	file, err := os.Open(flags.from)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer file.Close() // only read
	if flags.dev {
		return restoreDev(ctx, flags, file, cities, stdout)
	}
	restored, err := node.Restore(ctx, file, cities, flags.dataDir)
	if err != nil {
		return fmt.Errorf("restore %s: %w", flags.from, err)
	}
	_, err = fmt.Fprintf(stdout, `restored: index %d, digest %s, into %s
Next: restore the same backup for every other node of the new cluster, into a folder of its own. Then start them all:
  demsd node --data-dir %s%s --id ID --listen HOST:PORT --peers ID=HOST:PORT,…
`, restored.Origin.Index, restored.Origin.Digest, flags.dataDir, flags.dataDir, citiesFlag(restored.Cities))
	return err
}

// citiesFlag returns what a command line needs besides for cities that are not the usual ones.
func citiesFlag(cities dems.Cities) string {
	if text := cities.String(); text != dems.DefaultCities().String() {
		return " --cities '" + text + "'"
	}
	return ""
}

// restoreDev makes the folder of a development cluster. Its file dev.json comes last, and a mark says until then that the folder is
// not whole.
func restoreDev(ctx context.Context, flags *restoreFlags, from io.ReadSeeker, cities dems.Cities, stdout io.Writer) (err error) {
	checked, err := node.Restore(ctx, from, cities) // no folder yet: where the backup is damaged, nothing is written
	if err != nil {
		return fmt.Errorf("restore %s: %w", flags.from, err)
	}
	d := &dev{flags: devFlags{dataDir: flags.dataDir, nodes: flags.nodes, cities: checked.Cities.String()}}
	if err := d.clear(); err != nil {
		return err
	}
	lock, err := lockFolder(ctx, flags.dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	mark := filepath.Join(flags.dataDir, restoringFile)
	if err := writeWhole(mark, []byte(flags.from+"\n")); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	var dirs []string
	for i := range flags.nodes {
		dirs = append(dirs, filepath.Join(flags.dataDir, d.nodeID(i)))
	}
	restored, err := node.Restore(ctx, from, cities, dirs...)
	if err == nil {
		err = d.checkMarker() // makes it
	}
	if err != nil {
		return errors.Join(fmt.Errorf("restore %s: %w", flags.from, err), d.discard())
	}
	if err := os.Remove(mark); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	_, err = fmt.Fprintf(stdout, `restored: index %d, digest %s, into %d nodes' folders in %s
Next:
  demsd dev --data-dir %s --nodes %d%s
`, restored.Origin.Index, restored.Origin.Digest, flags.nodes, flags.dataDir, flags.dataDir, flags.nodes, citiesFlag(restored.Cities))
	return err
}

// clear makes sure that nothing is in a folder but what an interrupted restoration has left, and deletes that.
func (d *dev) clear() error {
	if err := os.MkdirAll(d.flags.dataDir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	entries, err := os.ReadDir(d.flags.dataDir)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	interrupted := d.isBeingRestored()
	for _, entry := range entries {
		name := entry.Name()
		ours := interrupted && (name == restoringFile || name == "dev.json" || name == "dev.json.new" || isDevNode(name))
		if !ours && name != "lock" && name != restoringFile+".new" && name != "lost+found" {
			return fmt.Errorf("data folder %s is not empty (it holds %s): a backup is restored into an empty folder only", d.flags.dataDir, name)
		}
	}
	if interrupted {
		return d.discard()
	}
	return nil
}

// discard deletes what a restoration has made, its mark last.
func (d *dev) discard() error {
	entries, err := os.ReadDir(d.flags.dataDir)
	for _, entry := range entries {
		if name := entry.Name(); name == "dev.json" || isDevNode(name) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.flags.dataDir, name)))
		}
	}
	if err == nil {
		err = os.Remove(filepath.Join(d.flags.dataDir, restoringFile))
	}
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

// isDevNode tells whether a name is that of a node's folder in a development cluster.
func isDevNode(name string) bool {
	return len(name) == 2 && name[0] == 'n' && name[1] >= '1' && name[1] <= '9'
}

// isBeingRestored tells whether a backup is being restored into the folder, or was until that was interrupted.
func (d *dev) isBeingRestored() bool {
	_, err := os.Lstat(filepath.Join(d.flags.dataDir, restoringFile))
	return err == nil
}
