package main

import (
	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/internal/conf"
)

func configPrintCommand() *cobra.Command {
	var diff bool
	c := &cobra.Command{
		Use:   "print [FILE]",
		Short: "Prints the config that a file gives, defaults included",
		Long: `Prints as YAML the config that a file gives, defaults included.

Without a file it prints the defaults. Secrets are never printed.`,
		Example: `  weir config print > weir.yaml
  weir config print --diff weir.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file := ""
			if len(args) == 1 {
				file = args[0]
			}
			out, err := printConfig(file, diff)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(out)
			return err
		},
	}
	c.Flags().BoolVar(&diff, "diff", false, "print only what differs from the defaults")
	return c
}

func printConfig(file string, diff bool) ([]byte, error) {
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, err
	}
	if diff {
		return conf.Diff(cfg, DefaultConfig())
	}
	return conf.Print(cfg)
}
