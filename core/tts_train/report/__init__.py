"""Pictures and pages a user looks at: mel images, curves, report.html."""
