package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dems"
	"dems/client"
)

// replacementInterval is how often the cluster is looked at while a node is being replaced.
const replacementInterval = 200 * time.Millisecond

func (p *program) clusterReplaceCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "replace NODE",
		Short: "Remove a node, empty it and add it again with the state of the others",
		Long: `Remove a node, empty it and add it again with the state of the others, whatever is known against it. A node in quarantine is
let in again. It waits until the node votes again under its next incarnation, and tells how far it is where standard error is
a terminal. When it ends before that, by --wait-timeout or a signal, the exit status is 4, and the replacement goes on.`,
		Example: `  demsctl cluster replace n2
  demsctl cluster replace n2 --wait=false`,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: cobra.NoFileCompletions,
	}
	wait := command.Flags().Bool("wait", true, "wait until the node votes again")
	limit := command.Flags().Duration("wait-timeout", 2*time.Minute, "how long to wait")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		if *limit <= 0 {
			return fmt.Errorf("--wait-timeout %v: write a time above zero, as in 2m", *limit)
		}
		api, err := p.connect()
		if err != nil {
			return err
		}
		id := dems.NodeID(arguments[0])
		if !*wait {
			replacing, err := api.ReplaceNode(command.Context(), id)
			if err != nil {
				return err
			}
			return p.emit(replacing.Body, func(page *page) { page.line("Accepted: %s is being replaced", id) })
		}
		node, err := p.replace(command.Context(), api, id, *limit)
		if err != nil {
			return err
		}
		body, err := json.Marshal(node)
		if err != nil {
			return err
		}
		return p.emit(body, func(page *page) { page.line("Replaced: %s is %s", id, describeNode(node)) })
	}
	return command
}

// replace has a node replaced, waits for the end of that, and returns what the node is then.
func (p *program) replace(ctx context.Context, api *client.Client, id dems.NodeID, limit time.Duration) (*client.NodeView, error) {
	least, err := nextIncarnation(ctx, api, id)
	if err != nil {
		return nil, err
	}
	if _, err := api.ReplaceNode(ctx, id); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(replacementInterval)
	defer ticker.Stop()
	for last := ""; ; {
		view, err := api.ClusterStatus(ctx)
		if err != nil && !passes(err) {
			return nil, err
		}
		if node := nodeOf(view, id); node != nil {
			if now := describeNode(node); now != last {
				if last = now; p.chatty {
					fmt.Fprintf(p.stderr, "demsctl: %s is %s\n", id, printable(now))
				}
			}
			if node.State == "healthy" && node.Suffrage == dems.Voter && node.Incarnation >= least {
				return node, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, &client.Error{Code: dems.Indeterminate, Detail: fmt.Sprintf(
				"%s is being replaced and does not vote again yet (%s); that goes on by itself: look at demsctl cluster status.", id, last)}
		case <-ticker.C:
		}
	}
}

// nextIncarnation returns the least incarnation under which a node can vote after it was replaced: of a voter the next one; a
// node that is out already may be known by the one to come. A front end that has never reached the node knows none, but the
// registry does.
func nextIncarnation(ctx context.Context, api *client.Client, id dems.NodeID) (uint64, error) {
	view, err := api.ClusterStatus(ctx)
	if err != nil {
		return 0, err
	}
	newest, votes := uint64(0), true
	if node := nodeOf(view, id); node != nil {
		newest, votes = node.Incarnation, node.Suffrage == dems.Voter
	}
	registry, err := api.Registry(ctx)
	if err != nil {
		return 0, err
	}
	for _, registered := range registry.Nodes {
		if registered.ID == string(id) {
			newest = max(newest, registered.Incarnation)
		}
	}
	if votes {
		newest++
	}
	return newest, nil
}

// nodeOf returns a node of a view, or nil.
func nodeOf(view *client.ClusterView, id dems.NodeID) *client.NodeView {
	if view == nil {
		return nil
	}
	at := slices.IndexFunc(view.Nodes, func(n client.NodeView) bool { return n.ID == id })
	if at < 0 {
		return nil
	}
	return &view.Nodes[at]
}

func describeNode(node *client.NodeView) string {
	return fmt.Sprintf("%s, incarnation %d, %s", node.State, node.Incarnation, map[dems.Suffrage]string{
		dems.Voter: "a voter", dems.Nonvoter: "not a voter yet", dems.None: "no member",
	}[node.Suffrage])
}
