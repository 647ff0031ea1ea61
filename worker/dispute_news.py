"""What the operator is told of games, demands and faults."""

from efedllm.chain.amounts import format_amount
from efedllm.chain.deployment import Deployment
from efedllm.protocol.game import Phase

from .games import News
from .notices import Notices


def announce(news: News, deployment: Deployment, notices: Notices) -> None:
    """Events `challenged`, `defended`, `lost` and `fault`."""
    request = "0x" + news.request_id.hex()
    about: dict[str, object] = {"request": request}
    game = news.game
    if game is None:
        text = f"fault number {news.fault} of this worker was proven, in request {request}"
        notices.announce(text, {"event": "fault", "number": news.fault, **about})
        return
    is_demand, number = game.chunk is not None, hex(game.game_id)
    about |= {"game": number, "receipt": "0x" + game.receipt_digest.hex(), "by": game.challenger, "demand": is_demand}
    name = f"{'demand' if is_demand else 'game'} {number}"
    if news.kind == "challenged":
        notices.announce(
            f"challenged by {game.challenger}: {name} about request {request}", {"event": "challenged", **about}
        )
    elif game.outcome is Phase.WORKER_WON:
        amount = f"{format_amount(game.to_worker, deployment.token_decimals)} {deployment.token_symbol}"
        notices.announce(
            f"defended: {name} is over and brought {amount}",
            {"event": "defended", "amount": str(game.to_worker), **about},
        )
    elif game.outcome is Phase.CHALLENGER_WON:
        notices.announce(f"lost: {name}", {"event": "lost", **about})
