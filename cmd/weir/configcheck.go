package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Reads a config file and lists all its faults",
		Long: `Reads a config file as "weir serve" would and lists all its faults at once.

Exits with 0 when there are none, else with 1.`,
		Example: `  weir config check weir.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := loadConfig(args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "config", args[0], "is good")
			return err
		},
	}
}
