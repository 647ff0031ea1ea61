"""What an application uses: finding workers, paying them, streaming text; never torch."""
