"""What does an operator without Grafana look at while a sale runs? `boxoffice dash`, in a terminal."""
