"""What a campaign did with its time: timelines, summaries and the HTML report."""
