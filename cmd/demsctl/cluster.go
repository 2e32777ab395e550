package main

import (
	"time"

	"github.com/spf13/cobra"

	"dems"
	"dems/client"
)

func (p *program) registryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "registry",
		Short: "Show the cities, the nodes and the front ends that are registered",
		Example: `  demsctl registry
  demsctl registry -o json`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			api, err := p.connect()
			if err != nil {
				return err
			}
			view, err := api.Registry(command.Context())
			if err != nil {
				return err
			}
			return p.emit(view.Body, func(page *page) { writeRegistry(page, view) })
		},
	}
}

func writeRegistry(page *page, view *client.RegistryView) {
	rows := make([][]cell, len(view.Cities))
	for i, city := range view.Cities {
		rows[i] = cells(city.City, city.Name)
	}
	page.table([]string{"CITY", "NAME"}, rows)
	page.line("")
	rows = make([][]cell, len(view.Nodes))
	for i, node := range view.Nodes {
		rows[i] = cells(node.ID, node.Address, node.Version, node.Time.UTC().Format(time.RFC3339), node.Incarnation)
	}
	page.table([]string{"NODE", "ADDRESS", "VERSION", "REGISTERED", "INCARNATION"}, rows)
	page.line("")
	rows = make([][]cell, len(view.FrontEnds))
	for i, frontEnd := range view.FrontEnds {
		rows[i] = cells(frontEnd.ID, frontEnd.Address, frontEnd.Version, frontEnd.Time.UTC().Format(time.RFC3339))
	}
	page.table([]string{"FRONT END", "ADDRESS", "VERSION", "REGISTERED"}, rows)
}

func (p *program) clusterCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "cluster",
		Short: "Look at the cluster, hand leadership over, replace a node",
		Example: `  demsctl cluster status
  demsctl cluster transfer n2
  demsctl cluster replace n2`,
		Args: cobra.NoArgs,
		RunE: needsCommand,
	}
	command.AddCommand(p.clusterStatusCommand(), p.clusterTransferCommand(), p.clusterReplaceCommand())
	return command
}

func (p *program) clusterStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the leader and what is known of each node",
		Example: `  demsctl cluster status
  demsctl cluster status -o json`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			api, err := p.connect()
			if err != nil {
				return err
			}
			view, err := api.ClusterStatus(command.Context())
			if err != nil {
				return err
			}
			return p.emit(view.Body, func(page *page) { writeCluster(page, view) })
		},
	}
}

func writeCluster(page *page, view *client.ClusterView) {
	if view.Leader == "" {
		page.line("Leader: none known, term %d", view.Term)
	} else {
		page.line("Leader: %s, term %d", printable(string(view.Leader)), view.Term)
	}
	page.line("")
	rows := make([][]cell, len(view.Nodes))
	for i, node := range view.Nodes {
		rows[i] = cells(node.ID, node.Incarnation, node.State, node.Suffrage, node.Applied, node.Digest, node.Strikes)
		switch node.State {
		case "healthy":
			rows[i][2].colour = green
		case "suspected", "replacing":
			rows[i][2].colour = yellow
		default:
			rows[i][2].colour = red
		}
	}
	page.table([]string{"NODE", "INCARNATION", "STATE", "SUFFRAGE", "APPLIED", "DIGEST", "STRIKES"}, rows)
}

func (p *program) clusterTransferCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "transfer [NODE]",
		Short: "Hand leadership over to a node, or to any other than the leader",
		Example: `  demsctl cluster transfer
  demsctl cluster transfer n2`,
		Args: cobra.MaximumNArgs(1),

		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(command *cobra.Command, arguments []string) error {
			api, err := p.connect()
			if err != nil {
				return err
			}
			var to dems.NodeID
			if len(arguments) == 1 {
				to = dems.NodeID(arguments[0])
			}
			transferred, err := api.TransferLeadership(command.Context(), to)
			if err != nil {
				return err
			}
			return p.emit(transferred.Body, func(page *page) {
				page.line("Leader: %s", printable(string(transferred.Leader)))
			})
		},
	}
}
