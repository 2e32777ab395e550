package onenode

import (
	"bytes"
	"context"
	"io"

	"dems/backup"
	"dems/frontend"
)

// Backup implements frontend.Cluster: of a real state, with real city logs, confirmed by nobody.
func (c *Cluster) Backup(_ context.Context, begin func(frontend.Backup) (io.Writer, error)) error {
	c.mu.Lock()
	snapshot, err := c.machine.Snapshot(), c.failure()
	logs := make(map[string][]byte)
	for city, records := range c.records {
		logs[city.String()] = bytes.Join(records, nil)
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	to, err := begin(frontend.Backup{Origin: snapshot.Origin(), Node: "n2", Agreeing: 2, Asked: 3})
	if err != nil {
		return err
	}
	w, err := backup.NewWriter(to, backup.HeadOf(snapshot))
	if err != nil {
		return err
	}
	if _, err := snapshot.WriteTo(w.State()); err != nil {
		return err
	}
	for _, named := range snapshot.Cities() {
		if err := w.Records(named.City, logs[named.City.String()]); err != nil {
			return err
		}
	}
	return w.Close()
}
