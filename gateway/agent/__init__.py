"""At an agency: reads its topic, hands each document to the agency's own system, and tells the gateway the outcome."""
